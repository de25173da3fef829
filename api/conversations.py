"""Stored conversations as the API sees them: found by an id, shown, and deleted with all that is theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from api.errors import ApiError
from shared import redis_keys as keys
from shared.added_items import (
    MOST_BYTES,
    MOST_ITEMS,
    AddedItem,
    AddedItems,
    Rewrite,
    TooManyItemsError,
)
from shared.content import ToolResultPart
from shared.conversations import (
    ConversationStore,
    Order,
    Page,
    Record,
    Tally,
    UnknownPlaceError,
    transcript_key,
)
from shared.prefix import prefix_under
from shared.registry import CachedRegistry
from shared.runs import RunRequest
from shared.transcripts import TranscriptStore

_LATER = "It may have expired, or it was deleted."


class Thread(msgspec.Struct, frozen=True):
    """The stored place that a request goes on from, and the field that named it.

    `conversation` is the id of the conversation that the turn is added to, or empty.
    """

    record: Record
    conversation: str
    param: str

    def require_agent(self, agent: str) -> None:
        """Raise `ApiError` 400 unless this is a conversation with `agent`."""
        if self.record.agent not in {"", agent}:
            said = f"This is a conversation with {self.record.agent!r}, and 'model' names {agent!r}."
            raise ApiError(400, said, param=self.param, code="invalid_value")

    def go_on(self, run: RunRequest) -> RunRequest:
        """The run, gone on from here; the model stays unless it names another, which no process holds yet.

        The revision is the one that the run names, or none.

        Raises `ApiError` 400 unless its prompt answers just the calls with which the conversation ends.
        """
        record = self.record
        model = run.model or record.model
        system = run.system or record.system
        run = msgspec.structs.replace(run, model=model, system=system, conversation=self.conversation)
        if not record.has_begun:
            return run
        _require_answers(run, record.calls)
        return msgspec.structs.replace(
            run,
            history=(),
            system=record.system,
            prefix=_prefix(run, record),
            session=record.session,
            head=record.head,
        )


def _prefix(run: RunRequest, record: Record) -> str:
    if (run.model, run.revision) == (record.model, record.revision):
        return record.prefix
    return prefix_under(record.prefix, run.model, run.revision)


class Conversations:
    """Finds, lists and deletes stored conversations and sessions of a tenant.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(
        self,
        store: ConversationStore,
        added: AddedItems,
        transcripts: TranscriptStore,
        registry: CachedRegistry,
    ) -> None:
        self._store = store
        self._added = added
        self._transcripts = transcripts
        self._registry = registry

    async def by_conversation(self, tenant: str, conversation_id: str) -> Thread:
        """The conversation of this id; raises `ApiError` 404 when it cannot be gone on with."""
        record = await self._store.conversation(tenant, conversation_id)
        if record is None or (record.has_begun and not await self._store.is_kept(tenant, record)):
            raise conversation_not_found(conversation_id)
        return Thread(record, record.id, "conversation_id")

    async def by_session(self, tenant: str, session_id: str) -> Thread:
        """The session of this id, or the conversation reserved for one; raises `ApiError` 404."""
        param = "claude_options.session_id"
        reserved = await self._store.conversation(tenant, session_id)
        if reserved is not None and not reserved.has_begun:
            return Thread(reserved, reserved.id, param)
        record = await self._store.session(tenant, reserved.session if reserved else session_id)
        return await self._thread_of(tenant, record, session_id, param)

    async def newest(self, tenant: str, agent: str, project: str = "") -> Thread:
        """The session used last with an agent, or in a project; raises `ApiError` 404 when there is none."""
        param = "claude_options.continue"
        record = await self._store.newest_session(tenant, keys.place(agent, project))
        if record is None:
            said = f"There is no session with {agent!r} to continue."
            raise ApiError(404, said, param=param, code="session_not_found")
        return await self._thread_of(tenant, record, record.id, param)

    async def create(
        self, tenant: str, *, agent: str, model: str | None, metadata: Mapping[str, str]
    ) -> Record:
        """Begin a conversation that has no turns yet."""
        return await self._store.create(tenant, agent=agent, model=model, metadata=metadata)

    async def conversation(self, tenant: str, conversation_id: str) -> Record:
        """A conversation's record; raises `ApiError` 404."""
        record = await self._store.conversation(tenant, conversation_id)
        if record is None:
            raise conversation_not_found(conversation_id)
        return record

    async def session(self, tenant: str, session_id: str) -> Record:
        """A session's record, or that of a conversation reserved for one; raises `ApiError` 404."""
        reserved = await self._store.conversation(tenant, session_id)
        if reserved is not None and not reserved.has_begun:
            return reserved
        record = await self._store.session(tenant, reserved.session if reserved else session_id)
        if record is None:
            raise session_not_found(session_id, "session_id")
        return record

    async def set_metadata(self, tenant: str, conversation_id: str, metadata: Mapping[str, str]) -> Record:
        """Replace a conversation's metadata and give its record; raises `ApiError` 404."""
        record = await self.conversation(tenant, conversation_id)
        if not await self._store.set_metadata(tenant, record.id, metadata):
            raise conversation_not_found(conversation_id)
        return msgspec.structs.replace(record, metadata=dict(metadata))

    async def list_conversations(self, tenant: str, *, limit: int, after: str, order: Order) -> Page:
        """A page of conversations by last use; raises `ApiError` 400 for an unknown `after`."""
        try:
            return await self._store.conversations(tenant, limit=limit, after=after, order=order)
        except UnknownPlaceError as error:
            raise unknown_place(after) from error

    async def list_sessions(self, tenant: str, *, agent: str, limit: int, after: str, order: Order) -> Page:
        """A page of sessions by last use; raises `ApiError` 400 for an unknown `after`."""
        try:
            return await self._store.sessions(tenant, agent=agent, limit=limit, after=after, order=order)
        except UnknownPlaceError as error:
            raise unknown_place(after) from error

    async def tally(self, tenant: str) -> tuple[dict[str, Tally], int]:
        """What the tenant's stored sessions add up to by agent, and how many conversations there are."""
        return await self._store.tally(tenant), await self._store.count_conversations(tenant)

    async def entries(self, tenant: str, record: Record) -> list[dict[str, Any]]:
        """What the transcript holds up to the place of `record`; nothing before the first turn."""
        if not record.head:
            return []
        key = transcript_key(tenant, record.agent, record.session)
        return await self._transcripts.load_until(key, record.head) or []

    async def waiting(self, tenant: str, conversation_id: str) -> list[AddedItem]:
        """The items that wait for a conversation's next turn, oldest first."""
        return await self._added.waiting(tenant, conversation_id)

    async def add(self, tenant: str, conversation_id: str, items: Sequence[AddedItem]) -> None:
        """Add items for a conversation's next turn; raises `ApiError` 404, and 400 for too many."""
        try:
            is_added = await self._added.add(tenant, conversation_id, items)
        except TooManyItemsError as error:
            said = f"At most {MOST_ITEMS} items of {MOST_BYTES} bytes together can wait for the next turn."
            raise ApiError(400, said, param="items", code="too_many_items") from error
        if not is_added:
            raise conversation_not_found(conversation_id)

    async def take_back(self, tenant: str, conversation_id: str, item_id: str) -> bool:
        """Remove an item that waits for the next turn; `False` when none of this id does."""
        return await self._added.remove(tenant, conversation_id, item_id)

    async def rewrite(
        self, tenant: str, record: Record, entries: Sequence[Mapping[str, Any]], now: Rewrite
    ) -> None:
        """Put a conversation into a new session that holds `entries`, and delete the one it was in.

        Raises `ApiError` 409 when a turn has moved the conversation on meanwhile.
        """
        key = transcript_key(tenant, record.agent, now.session)
        if entries:
            await self._transcripts.append(key, entries)
        if not await self._added.rewrite(tenant, record, now):
            await self._transcripts.delete(key)
            said = "A turn has ended in this conversation meanwhile. Try again."
            raise ApiError(409, said, type="conflict_error", code="conversation_moved", is_retryable=True)
        session = await self._store.session(tenant, record.session)
        if session is not None and session.conversation == record.id:
            await self._delete_session(tenant, session)

    async def is_live(self, record: Record) -> bool:
        """Whether a worker has the conversation in a process."""
        worker = await self._store.live_on(record)
        return any(known.id == worker for known in (await self._registry.look()).workers)

    async def delete_conversation(self, tenant: str, record: Record) -> None:
        """Delete a conversation, and the session it stands in unless that is another's."""
        await self._store.delete_conversation(tenant, record.id)
        if not record.has_begun:
            return
        session = await self._store.session(tenant, record.session)
        if session is not None and session.conversation == record.id:
            await self._delete_session(tenant, session)

    async def delete_session(self, tenant: str, record: Record) -> None:
        """Delete a session: records, transcript, place in the index, and the process that holds it."""
        conversation_id = record.conversation or (record.id if not record.has_begun else "")
        conversation = await self._store.conversation(tenant, conversation_id)
        if conversation is not None and conversation.session == record.session:
            await self._store.delete_conversation(tenant, conversation.id)
        if record.has_begun:
            await self._delete_session(tenant, record)

    async def _delete_session(self, tenant: str, record: Record) -> None:
        await self._store.delete_session(tenant, record)
        for worker in (await self._registry.look(fresh=True)).workers:
            if record.agent in worker.agents:
                await self._store.drop(worker.id, record.session)
        await self._transcripts.delete(transcript_key(tenant, record.agent, record.session))

    async def _thread_of(self, tenant: str, record: Record | None, asked: str, param: str) -> Thread:
        if record is None or not await self._store.is_kept(tenant, record):
            raise session_not_found(asked, param)
        conversation = await self._store.conversation(tenant, record.conversation)
        is_there = conversation is not None and (conversation.session, conversation.head) == (
            record.session,
            record.head,
        )
        return Thread(record, record.conversation if is_there else "", param)


def conversation_not_found(conversation_id: str) -> ApiError:
    """The answer to an id that is not one of the tenant's conversations."""
    said = f"There is no conversation with the id '{conversation_id[:100]}'. {_LATER}"
    return ApiError(404, said, param="conversation_id", code="conversation_not_found")


def session_not_found(session_id: str, param: str) -> ApiError:
    """The answer to an id that is not one of the tenant's sessions."""
    said = f"There is no session with the id '{session_id[:100]}'. {_LATER}"
    return ApiError(404, said, param=param, code="session_not_found")


def unknown_place(after: str) -> ApiError:
    """The answer to a page that should begin after what is not in the list."""
    said = f"There is nothing with the id '{after[:100]}' in this list."
    return ApiError(400, said, param="after", code="invalid_value")


def _require_answers(run: RunRequest, calls: Sequence[str]) -> None:
    answered = {part.tool_use_id for part in run.prompt if isinstance(part, ToolResultPart)}
    if missing := set(calls) - answered:
        said = f"No tool output was found for the calls of the conversation: {_listed(missing)}."
        raise ApiError(400, said, param="messages", code="invalid_value")
    if unknown := answered - set(calls):
        said = f"The conversation has no open tool calls with these ids: {_listed(unknown)}."
        raise ApiError(400, said, param="messages", code="invalid_value")


def _listed(ids: Iterable[str]) -> str:
    return ", ".join(sorted(ids))[:200]
