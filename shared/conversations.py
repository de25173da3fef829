"""Records of conversations and sessions in Redis: explicit ids, as aliases of places in transcripts.

A session's record says where its newest turn is; a conversation's record, which a client asked for, says
in which session it now stands and where. Both belong to a tenant: another's id is one that does not exist.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared import transcript_keys
from shared.runs import RunRequest
from shared.scripts import Scripts
from shared.transcripts import TranscriptKey

Order = Literal["asc", "desc"]

_CONVERSATION_ID = re.compile(r"conv_[0-9a-f]{48}")
_SESSION_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,63}")
_CHUNK = 500


class UnknownPlaceError(Exception):
    """The id after which a page should begin is not in the list."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation's record, or a session's. Times are Redis's, in ms since the epoch.

    `prefix` and (`session`, `head`) name the same place: for the index, and in the stored transcript. All
    three are empty before the first turn; `head` alone when the transcript had become too large to store.
    """

    id: str
    created_ms: int
    updated_ms: int
    agent: str = ""
    project: str = ""
    revision: str = ""
    model: str | None = None
    system: str | None = None
    prefix: str = ""
    session: str = ""
    head: str = ""
    conversation: str = ""
    turns: int = 0
    cost_usd: float = 0.0
    metadata: dict[str, str] = {}
    calls: tuple[str, ...] = ()
    """Ids of the calls with which the newest turn ended, for the client to answer."""

    @property
    def has_begun(self) -> bool:
        """Whether there is a turn to go on from."""
        return bool(self.session)


class Page(msgspec.Struct, frozen=True):
    """Records in the order asked for, and whether there are more."""

    records: list[Record]
    has_more: bool


class Tally(msgspec.Struct):
    """What a tenant's stored sessions add up to."""

    sessions: int = 0
    turns: int = 0
    cost_usd: float = 0.0

    def add(self, record: Record) -> None:
        """Count one session."""
        self.sessions += 1
        self.turns += record.turns
        self.cost_usd += record.cost_usd


class ConversationStore:
    """Records in Redis, each kept for `ttl_s` seconds after its last use.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, redis: Redis, ttl_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._ttl_ms = max(1, int(ttl_s * 1000))

    async def create(
        self, tenant: str, *, agent: str = "", model: str | None = None, metadata: Mapping[str, str]
    ) -> Record:
        """Begin a conversation that has no turns yet."""
        conversation_id = f"conv_{secrets.token_hex(24)}"
        fields: dict[str, str | bytes] = {
            "agent": agent,
            "model": model or "",
            "metadata": msgspec.json.encode(metadata),
        }
        now = await self._scripts(
            "record_create",
            [keys.conversation(tenant, conversation_id), keys.conversations(tenant)],
            [self._ttl_ms, conversation_id, *_flat(fields)],
        )
        return Record(
            id=conversation_id,
            created_ms=now,
            updated_ms=now,
            agent=agent,
            model=model,
            metadata=dict(metadata),
        )

    async def conversation(self, tenant: str, conversation_id: str) -> Record | None:
        """A conversation's record; `None` when the tenant has none of this id (any more)."""
        if _CONVERSATION_ID.fullmatch(conversation_id) is None:
            return None
        return await self._read(keys.conversation(tenant, conversation_id), conversation_id)

    async def session(self, tenant: str, session_id: str) -> Record | None:
        """A session's record; `None` when the tenant has none of this id (any more)."""
        if _SESSION_ID.fullmatch(session_id) is None:
            return None
        return await self._read(keys.session(tenant, session_id), session_id)

    async def newest_session(self, tenant: str, place: str) -> Record | None:
        """The session that the tenant used last with an agent, or in a project (`redis_keys.place`)."""
        page = await self.sessions(tenant, agent=place, limit=1)
        return page.records[0] if page.records else None

    async def is_kept(self, tenant: str, record: Record) -> bool:
        """Whether the place that a record names can still be gone on from, by what is stored."""
        if not record.head:  # too large to store: a live process has it, or nobody
            return bool(await _now(self._redis.hexists(keys.prefix(record.prefix), "worker")))
        key = transcript_key(tenant, record.agent, record.session)
        return bool(await self._redis.exists(transcript_keys.chunks(key["project_key"], key["session_id"])))

    async def set_metadata(self, tenant: str, conversation_id: str, metadata: Mapping[str, str]) -> bool:
        """Replace a conversation's metadata; `False` when it is not there (any more)."""
        return bool(
            await self._scripts(
                "record_update",
                [keys.conversation(tenant, conversation_id), keys.conversations(tenant)],
                [self._ttl_ms, conversation_id, "metadata", msgspec.json.encode(metadata)],
            )
        )

    async def conversations(self, tenant: str, *, limit: int, after: str = "", order: Order = "desc") -> Page:
        """A page of a tenant's conversations by last use; raises `UnknownPlaceError`."""
        return await self._page(
            keys.conversations(tenant), keys.conversation(tenant, ""), limit, after, order
        )

    async def sessions(
        self, tenant: str, *, agent: str = "", limit: int, after: str = "", order: Order = "desc"
    ) -> Page:
        """A page of a tenant's sessions by last use, all or one agent's; raises `UnknownPlaceError`."""
        return await self._page(keys.sessions(tenant, agent), keys.session(tenant, ""), limit, after, order)

    async def tally(self, tenant: str) -> dict[str, Tally]:
        """What the tenant's stored sessions add up to, by agent. Reads every record."""
        tallies: dict[str, Tally] = {}
        async for record in self._all_sessions(tenant):
            tallies.setdefault(record.agent, Tally()).add(record)
        return tallies

    async def count_conversations(self, tenant: str) -> int:
        """How many conversations the tenant has, lapsed ones not yet swept included."""
        return int(await self._redis.zcard(keys.conversations(tenant)))

    async def save(
        self,
        request: RunRequest,
        *,
        session: str,
        head: str,
        before: str,
        prefix: str,
        cost_usd: float,
        worker: str,
        calls: Sequence[str] = (),
    ) -> bool:
        """Note that a turn has brought a conversation to `prefix` on `worker`; twice is as good as once.

        `head` is empty when the turn could not be stored, `before` the hash under which the process was
        known. `False` when the session or the conversation has been deleted meanwhile.
        """
        shared = {
            "agent": request.agent,
            "project": request.project,
            "revision": request.revision,
            "model": request.model or "",
            "system": request.system or "",
            "calls": ",".join(calls),
        }
        names = [
            keys.prefix(before),
            keys.prefix(prefix),
            keys.session(request.tenant, session),
            keys.sessions(request.tenant),
            keys.sessions(request.tenant, request.place),
            keys.conversation(request.tenant, request.conversation),
            keys.conversations(request.tenant),
            keys.added_items(request.tenant, request.conversation),
        ]
        place = [session, head, prefix]
        origin = [request.conversation, request.session, request.head]
        told = "".join(f"{item} " for item in request.items)
        args = [self._ttl_ms, worker, *place, repr(cost_usd), *origin, told, *_flat(shared)]
        return bool(await self._scripts("session_save", names, args))

    async def delete_conversation(self, tenant: str, conversation_id: str) -> None:
        """Delete a conversation's record; its session is another matter."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.conversation(tenant, conversation_id), keys.added_items(tenant, conversation_id))
            pipe.zrem(keys.conversations(tenant), conversation_id)
            await pipe.execute()

    async def delete_session(self, tenant: str, record: Record) -> None:
        """Delete a session's record and its place in the index; a turn under way on it will not be stored."""
        await self._scripts(
            "session_delete",
            [
                keys.session(tenant, record.id),
                keys.sessions(tenant),
                keys.sessions(tenant, keys.place(record.agent, record.project)),
                keys.prefix(record.prefix),
            ],
            [record.id, self._ttl_ms],
        )

    async def live_on(self, record: Record) -> str | None:
        """The id of the worker whose process stands at the place of `record`, by what is noted."""
        worker: bytes | None = await _now(self._redis.hget(keys.prefix(record.prefix), "worker"))
        return worker.decode() if worker is not None else None

    async def drop(self, worker: str, session: str) -> None:
        """Tell a worker to end its idle process of a session."""
        await self._redis.publish(keys.control(worker), keys.DROP + session)

    async def _read(self, name: str, record_id: str) -> Record | None:
        return _record(record_id, await _now(self._redis.hgetall(name)))

    async def _page(self, index: str, prefix: str, limit: int, after: str, order: Order) -> Page:
        is_known, *rows = await self._scripts(
            "record_page", [index], [prefix, after, limit + 1, order, self._ttl_ms]
        )
        if not is_known:
            raise UnknownPlaceError(after)
        found = [
            _record(record_id.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            for record_id, fields in zip(rows[::2], rows[1::2], strict=True)
        ]
        return Page([record for record in found[:limit] if record is not None], len(found) > limit)

    async def _all_sessions(self, tenant: str) -> AsyncIterator[Record]:
        after = ""
        while True:
            page = await self.sessions(tenant, limit=_CHUNK, after=after, order="asc")
            for record in page.records:
                yield record
            if not page.has_more:
                return
            after = page.records[-1].id


def transcript_key(tenant: str, agent: str, session_id: str) -> TranscriptKey:
    """Where the transcript of a tenant's session with an agent is."""
    return {"project_key": f"{keys.owner(tenant)}/{agent}", "session_id": session_id}


def _record(record_id: str, fields: Mapping[bytes, bytes]) -> Record | None:
    if b"created" not in fields:  # not there, or only the mark of a deleted one
        return None
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return Record(
        id=record_id,
        created_ms=int(text["created"]),
        updated_ms=int(text["updated"]),
        agent=text.get("agent", ""),
        project=text.get("project", ""),
        revision=text.get("revision", ""),
        model=text.get("model") or None,
        system=text.get("system") or None,
        prefix=text.get("prefix", ""),
        session=text.get("session", ""),
        head=text.get("head", ""),
        conversation=text.get("conversation", ""),
        turns=int(text.get("turns", 0)),
        cost_usd=round(float(text.get("cost", 0)), 9),
        metadata=msgspec.json.decode(text.get("metadata", "{}"), type=dict[str, str]),
        calls=tuple(filter(None, text.get("calls", "").split(","))),
    )


def _flat(fields: Mapping[str, str | bytes]) -> list[str | bytes]:
    return [value for pair in fields.items() for value in pair]


async def _now(answer: Any) -> Any:
    """Await what redis-py types as an answer or the promise of one."""
    return await answer
