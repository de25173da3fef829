"""Runs as they can be looked up while their records are kept: one by its id, or a page of a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.run_events import TerminalEvent, decode_event
from shared.runs import RunRequest, RunState
from shared.scripts import Scripts, Value

_MOST_LOOKED_AT = 1_000
_RUN_ID = re.compile(r"run_([0-9a-f]{12})[0-9a-f]{32}")
_FIELDS = (
    *("state", "agent", "key"),  # in this order: what the script chooses by
    *("tenant", "created", "begun", "ended", "starts", "workers", "about", "end", "cancel"),
)


class RunAbout(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a run from its request, and kept when that is gone; no word of what was said."""

    request_id: str = ""
    conversation: str = ""
    project: str = ""
    model: str = ""
    is_batch: bool = False
    retry_of: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its record has it. Times are Redis's clock, in ms, 0 for not yet.

    `starts` counts the turns begun for it; `workers` are those that did, the newest last. `end` is its last
    event.
    """

    id: str
    state: RunState
    agent: str
    key: str
    tenant: str
    created_ms: int
    begun_ms: int
    ended_ms: int
    starts: int
    workers: tuple[str, ...]
    about: RunAbout
    end: TerminalEvent | None
    is_cancelling: bool
    """Whether its worker was asked to end it."""


class RunPage(msgspec.Struct, frozen=True):
    """Runs, the newest first. `place` is where the next page begins, empty where there is none.

    A page can hold fewer than were asked for, or none, and still have a next one.
    """

    runs: tuple[RunRecord, ...]
    place: str


class NoSuchPlaceError(ValueError):
    """A page was to begin at what is no run's id."""


class RunIndex:
    """Looks runs up. Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def get(self, run_id: str) -> RunRecord | None:
        """The run; `None` when there is none of this id (any more)."""
        values: Any = self._redis.hmget(keys.run(run_id), list(_FIELDS))
        return _read(run_id, await values)

    async def page(
        self,
        *,
        tenant: str | None = None,
        state: RunState | None = None,
        agent: str = "",
        key: str = "",
        place: str = "",
        side: Literal["after", "before"] = "after",
        limit: int,
    ) -> RunPage:
        """A page of a tenant's runs, or of all, that have this state, agent and key.

        It begins behind the run `place`, or ends before it. Raises `NoSuchPlaceError`.
        """
        chosen = ("" if state is None else state.value, agent, key)
        has_more, found = True, []
        while has_more:
            args: list[Value] = [keys.run(""), place, _age_of(place), side, limit, _MOST_LOOKED_AT]
            answer = await self._scripts("run_page", [keys.runs(tenant)], [*args, *chosen, *_FIELDS])
            has_more, last, *rows = answer
            found = [_read(run_id.decode(), row) for run_id, row in zip(rows[::2], rows[1::2], strict=True)]
            if last:
                place = last.decode()
                break  # else all it met had lapsed, and is swept out now
        if side == "before":
            found.reverse()
        return RunPage(tuple(run for run in found if run is not None), place if has_more else "")


def about(request: RunRequest) -> bytes:
    """What a run's record keeps of its request beside tenant, agent and key."""
    return msgspec.msgpack.encode(
        RunAbout(
            request_id=request.request_id,
            conversation=request.conversation,
            project=request.project,
            model=request.model or "",
            is_batch=request.is_batch,
            retry_of=request.retry_of,
        )
    )


def about_in(data: bytes) -> RunAbout:
    """Decode what `about` gave; empty for a run of an earlier version."""
    return _about.decode(data) if data else RunAbout()


def _age_of(place: str) -> int:
    """When the run was submitted, in ms, by its id: about right where its record is gone."""
    match = _RUN_ID.fullmatch(place)
    if place and match is None:
        raise NoSuchPlaceError(place)
    return int(match[1], 16) if match else 0


def _read(run_id: str, values: Sequence[bytes | None]) -> RunRecord | None:
    fields: Mapping[str, bytes] = {
        name: value for name, value in zip(_FIELDS, values, strict=True) if value is not None
    }
    if "state" not in fields:
        return None

    def text(name: str) -> str:
        return fields.get(name, b"").decode()

    return RunRecord(
        id=run_id,
        state=RunState(text("state")),
        agent=text("agent"),
        key=text("key"),
        tenant=text("tenant"),
        created_ms=int(fields.get("created", 0)),
        begun_ms=int(fields.get("begun", 0)),
        ended_ms=int(fields.get("ended", 0)),
        starts=int(fields.get("starts", 0)),
        workers=tuple(text("workers").split()),
        about=about_in(fields.get("about", b"")),
        end=_end_in(fields),
        is_cancelling="cancel" in fields,
    )


def _end_in(fields: Mapping[str, bytes]) -> TerminalEvent | None:
    event = decode_event(fields["end"]) if "end" in fields else None
    return event if isinstance(event, TerminalEvent) else None


_about = msgspec.msgpack.Decoder(RunAbout)
