"""Stored responses: kept, found, gone on from, and brought to their end when nobody reads them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

import msgspec
from redis.asyncio import Redis

from api.accepted import AcceptedRun
from api.errors import ApiError
from api.openai.responses.items import RawItem, output_items
from api.openai.responses.objects import Response
from api.openai.responses.telling import Manner, told_whole
from api.runs import Runs
from api.unattended import Unattended
from shared import redis_keys as keys
from shared.run_events import ErrorKind, RunError, RunEvent, RunFailed, TerminalEvent
from shared.runs import RunState
from shared.settings import Settings
from shared.stored import ObjectStore
from shared.webhooks.outbox import Outbox

_ID = re.compile(r"resp_([0-9a-f]{44})")
_ITEM_ID = re.compile(r"[a-z]+_(?P<key>[0-9a-f]{44})_(?:in)?[0-9]+")
_GONE = "The run's record is gone: Redis has lost its data, or nobody looked after it in time."


class StoredResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A response and all it takes to tell it again: `log` has what is told of its run, once that has ended.

    `ancestors` are the ids of the responses that it goes on from, oldest first.
    """

    response: Response
    manner: Manner
    run: AcceptedRun
    input: list[RawItem]
    ancestors: list[str] = []
    log: list[RunEvent] = []
    ended_at: int = 0


class Responses:
    """A tenant's stored responses.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(
        self, redis: Redis, runs: Runs, unattended: Unattended, outbox: Outbox, settings: Settings
    ) -> None:
        self._runs = runs
        self._outbox = outbox
        self._unattended = unattended
        self._store = ObjectStore(redis, "response", StoredResponse, settings.response_ttl_s)

    async def keep(self, tenant: str, stored: StoredResponse) -> None:
        """Store a response that has ended."""
        await self._store.put(tenant, stored.response.id, stored)

    async def open(self, tenant: str, stored: StoredResponse) -> None:
        """Store a background response, and have its end stored whoever reads it."""
        await self._store.put(tenant, stored.response.id, stored)
        await self._unattended.add(tenant, stored.run)

    async def settle(
        self, tenant: str, stored: StoredResponse, response: Response, log: Sequence[RunEvent], ended_at: int
    ) -> StoredResponse:
        """Store the end of a background response, unless it was deleted; to do so twice changes nothing.

        Webhooks are told in the same step.
        """
        stored = msgspec.structs.replace(stored, response=response, log=list(log), ended_at=ended_at)
        event_type = f"response.{response.status}"
        notice = self._outbox.notice(keys.owner(tenant), event_type, response.id, created=ended_at)
        await self._store.replace(tenant, response.id, stored, notice=notice)
        await self._unattended.remove(tenant, stored.run)
        return stored

    async def known(self, tenant: str, response_id: str) -> StoredResponse | None:
        """The response as it is now, if it is stored."""
        found = await self._store.get(tenant, response_id)
        if found is None or found.value.response.is_over:
            return found.value if found is not None else None
        return await self._now(tenant, found.value)

    async def find(self, tenant: str, response_id: str) -> StoredResponse:
        """The response as it is now; raises `ApiError` 404."""
        known = await self.known(tenant, response_id) if _ID.fullmatch(response_id) else None
        if known is None:
            raise response_not_found(response_id)
        return known

    async def delete(self, tenant: str, stored: StoredResponse) -> None:
        """Delete a response; a run under way is stopped."""
        if not stored.response.is_over:
            await self._runs.stop(stored.run.id, stored.run.agent)
        await self._store.delete(tenant, stored.response.id)
        await self._unattended.remove(tenant, stored.run)

    async def before(self, tenant: str, previous: str | None) -> tuple[list[RawItem], list[str]]:
        """All that was said up to the response `previous`, and the ids of the responses that said it.

        Raises `ApiError` 400 when one of them is not there (any more), or has not ended.
        """
        if previous is None:
            return [], []
        if _ID.fullmatch(previous) is None:
            raise _previous_not_found(previous)
        try:
            last = await self.find(tenant, previous)
        except ApiError as error:
            raise _previous_not_found(previous) from error
        if not last.response.is_over:
            said = f"The response '{previous}' has not ended yet."
            raise ApiError(400, said, param="previous_response_id", code="invalid_value")
        said_before: list[RawItem] = []
        for response_id, found in zip(
            last.ancestors, await self._store.get_all(tenant, last.ancestors), strict=True
        ):
            if found is None:
                raise _previous_not_found(response_id)
            said_before += _said(found.value)
        return said_before + _said(last), [*last.ancestors, previous]

    async def items(self, tenant: str, item_ids: Sequence[str]) -> Mapping[str, RawItem]:
        """Items of stored responses, of those ids that there are."""
        named = {match["key"] for item_id in item_ids if (match := _ITEM_ID.fullmatch(item_id))}
        found = await self._store.get_all(tenant, [f"resp_{key}" for key in sorted(named)])
        known: dict[str, RawItem] = {}
        for one in found:
            if one is not None:
                known |= {str(item["id"]): item for item in one.value.input}
                output: list[RawItem] = msgspec.to_builtins(one.value.response.output)
                known |= {str(item["id"]): item for item in output}
        return known

    async def ended_at(self, run: AcceptedRun, tenant: str) -> int:
        """When a run ended, by Redis's clock (s); when it was queued if that is not known."""
        status = await self._runs.status(run.id, tenant)
        return status.ended_ms // 1000 if status is not None and status.ended_ms else run.created

    async def settle_run(self, tenant: str, run: AcceptedRun) -> None:
        """Store the end of the response that a run was for, if there is one."""
        found = await self._store.get(tenant, response_id_of(run.id))
        if found is not None and not found.value.response.is_over:
            await self._now(tenant, found.value)

    async def _now(self, tenant: str, stored: StoredResponse) -> StoredResponse:
        """An open response as its run is now; one whose run has ended is settled."""
        status = await self._runs.status(stored.run.id, tenant)
        if status is not None and not status.state.is_terminal:
            word = "queued" if status.state is RunState.QUEUED else "in_progress"
            return msgspec.structs.replace(
                stored, response=msgspec.structs.replace(stored.response, status=word)
            )
        log = [logged.event for logged in await self._runs.log(stored.run.id)]
        told = [event for event in log if stored.manner.tells(event)]
        if not told or not isinstance(told[-1], TerminalEvent):
            told.append(RunFailed(error=RunError(ErrorKind.INTERNAL, _GONE)))
        ended_at = status.ended_ms // 1000 if status is not None else int(time.time())
        response, _ = told_whole(stored.response, stored.manner, told, ended_at)
        return await self.settle(tenant, stored, response, told, ended_at)


def response_id_of(run_id: str) -> str:
    """OpenAI's id for the run."""
    return "resp_" + run_id.removeprefix("run_")


def response_not_found(response_id: str) -> ApiError:
    """The answer to an id that is not one of the tenant's stored responses."""
    said = f"Response with id '{response_id[:100]}' not found."
    return ApiError(404, said, param="response_id", code="response_not_found")


def _previous_not_found(response_id: str) -> ApiError:
    said = f"Previous response with id '{response_id[:100]}' not found."
    return ApiError(400, said, param="previous_response_id", code="previous_response_not_found")


def _said(stored: StoredResponse) -> list[RawItem]:
    """The items of a response for the one that goes on from it; of a failed one no calls."""
    said = output_items(stored.response.output)
    if stored.response.status in {"failed", "cancelled"}:
        said = [item for item in said if item["type"] == "message"]
    return stored.input + said
