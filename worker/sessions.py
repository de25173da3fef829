"""Conversations beyond a process: mirrored to Redis, found again by what was said in them or by their id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared import redis_keys as keys
from shared.content import ToolUsePart
from shared.conversations import ConversationStore, transcript_key
from shared.prefix import prefix_after
from shared.runs import RunRequest
from shared.settings import Settings
from shared.transcripts import TranscriptKey, TranscriptStore, TranscriptTooLargeError
from worker.claude.live import LiveProcess
from worker.claude.transcript import Entry

_OUTAGE_S = 30.0
_RETRY_S = 0.25
_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

_log = structlog.get_logger(__name__)


class SessionGoneError(Exception):
    """The session that a request names is nowhere any more; an empty one would be a lie."""


class _Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a turn leaves its conversation; `before` and `prefix` are the hashes of what was said until then.

    `worker` is who has it live, or empty.
    """

    session: str
    head: str
    entries: list[Entry]
    before: str
    prefix: str
    worker: str
    calls: list[str]
    cost_usd: float


class Sessions:
    """Saves and finds conversations. A failure to save costs speed later, never the answer now."""

    def __init__(self, redis: Redis, settings: Settings, worker_id: str) -> None:
        self._redis = redis
        self._transcripts = TranscriptStore(
            redis, ttl_s=settings.session_ttl_s, max_bytes=settings.max_transcript_bytes
        )
        self._records = ConversationStore(redis, settings.session_ttl_s)
        self._worker_id = worker_id

    async def find(self, request: RunRequest) -> tuple[str, list[Entry]] | None:
        """The stored session that holds exactly the request's history: its id, its entries up to there.

        Raises `SessionGoneError` when the request names one and that is not there, `redis.RedisError` when
        it names one and Redis stays away: there is no other history to give to the model.
        """
        if request.session:
            entries = await self._entries(request, request.session, request.head)
            if not entries:
                raise SessionGoneError("The conversation has expired or was deleted.")
            return request.session, entries
        if not request.prefix:
            return None
        try:
            session, head = await self._fields(request.prefix, "session", "head")
            if session is None or head is None:
                return None
            entries = await self._transcripts.load_until(_key(request, session.decode()), head.decode())
        except (RedisError, OSError) as error:
            _log.warning("session_not_found", error=str(error))
            return None
        return (session.decode(), entries) if entries else None

    async def save(
        self,
        request: RunRequest,
        answer: str,
        calls: Sequence[ToolUsePart],
        process: LiveProcess,
        cost_usd: float | None = None,
    ) -> bool:
        """Store what the turn added, and note where the conversation now is, and that it is live here.

        Redis may be away for a while: the next turn by an explicit id needs this one. `False` when the
        conversation has been deleted meanwhile, so that its process should not be kept.
        """
        before, process.prefix = process.prefix, prefix_after(request, answer, calls)
        ending = _Ending(
            session=process.session_id,
            head=process.head or "",
            entries=process.take_entries(),
            before=before,
            prefix=process.prefix,
            worker=self._worker_id,
            calls=[call.id for call in calls],
            cost_usd=cost_usd or 0.0,
        )
        return await self._save_in_time(request, ending)

    async def save_recovered(
        self, request: RunRequest, answer: str, session: str, entries: list[Entry], cost_usd: float | None
    ) -> None:
        """Store a turn that two workers had a part in, as `entries`: no process holds just that."""
        ending = _Ending(
            session=session,
            head=entries[-1]["uuid"],
            entries=entries,
            before="",
            prefix=prefix_after(request, answer),
            worker="",
            calls=[],
            cost_usd=cost_usd or 0.0,
        )
        await self._save_in_time(request, ending)

    async def forget(self, prefix: str) -> None:
        """Note that a conversation is not live here any more; where it is stored stays known."""
        try:
            (worker,) = await self._fields(prefix, "worker")
            if worker is not None and worker.decode() == self._worker_id:
                async with self._redis.pipeline() as pipe:
                    pipe.hdel(keys.prefix(prefix), "worker")
                    await pipe.execute()
        except (RedisError, OSError) as error:
            _log.warning("session_not_forgotten", error=str(error))

    async def _save_in_time(self, request: RunRequest, ending: _Ending) -> bool:
        give_up_at = time.monotonic() + _OUTAGE_S
        while True:
            try:
                return await self._save(request, ending)
            except (RedisError, OSError) as error:
                _log.warning("session_not_saved", session=ending.session, error=str(error))
                if not isinstance(error, _AWAY) or time.monotonic() > give_up_at:
                    return True
            await asyncio.sleep(_RETRY_S)

    async def _save(self, request: RunRequest, ending: _Ending) -> bool:
        is_stored = await self._store(request, ending.session, ending.entries)
        is_saved = await self._records.save(
            request,
            session=ending.session,
            head=ending.head if is_stored else "",
            before=ending.before,
            prefix=ending.prefix,
            cost_usd=ending.cost_usd,
            worker=ending.worker,
            calls=ending.calls,
        )
        if not is_saved:
            await self._transcripts.delete(_key(request, ending.session))
        return is_saved

    async def _entries(self, request: RunRequest, session: str, head: str) -> list[Entry] | None:
        give_up_at = time.monotonic() + _OUTAGE_S
        while True:
            try:
                return await self._transcripts.load_until(_key(request, session), head) if head else None
            except _AWAY as error:
                if time.monotonic() > give_up_at:
                    raise
                _log.warning("session_awaited", session=session, error=str(error))
            await asyncio.sleep(_RETRY_S)

    async def _fields(self, prefix: str, *names: str) -> list[bytes | None]:
        async with self._redis.pipeline() as pipe:
            pipe.hmget(keys.prefix(prefix), list(names))
            (values,) = await pipe.execute()
        return list(values)

    async def _store(self, request: RunRequest, session_id: str, entries: list[Entry]) -> bool:
        try:
            await self._transcripts.append(_key(request, session_id), entries)
        except TranscriptTooLargeError as error:
            _log.warning("session_too_large", session=session_id, error=str(error))
            return False
        return True


def _key(request: RunRequest, session_id: str) -> TranscriptKey:
    return transcript_key(request.tenant, request.agent, session_id)
