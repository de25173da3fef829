"""The worker's one way of saying what its runs say: events of all runs over one self-batching wire.

An event leaves at once when the wire has been still; events that follow closely leave together, at most
`_GATHER_S` later. Answers are read in batches too, for nothing waits on them but the end of a run.

Redis copies to its replicas after it has answered. So the newest events are kept here though they were
acknowledged, and said again whenever a connection is made: who is the primary now may lack them, and refuses
those that it has.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Any

import hiredis
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.redis_wire import Command, RedisWire
from shared.run_events import RunEvent, encode_event

_GATHER_S = 0.002
_ANSWERS_S = 0.02
_ANSWER_LIMIT_S = 5.0
_MAX_IN_FLIGHT = 2_000
_MAX_PENDING = 20_000
_RETRY_S = 0.1
_LONGEST_RETRY_S = 1.0
_MOST_KEPT = 5_000
_MOST_KEPT_BYTES = 8 * 1024 * 1024
_OUT_OF_DATE = "equal or smaller than the target stream top item"

_log = structlog.get_logger(__name__)


class EventWriter:
    """Appends events in order; `run` must be running. While Redis is away events wait here, up to a bound."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._loop = asyncio.get_running_loop()  # kept: on Python 3.11 each look-up is a system call
        self._wire: RedisWire | None = None
        self._pending: deque[tuple[str, str, bytes]] = deque()
        """What is not yet acknowledged; the first `_in_flight` of it has been sent."""
        self._in_flight = 0
        self._kept = _Kept()
        self._again = 0
        """How many of the first of `_pending` are said again."""
        self._mended = 0
        self._answer: Any = None
        """What the last `XADD` was answered."""
        self._answers = 0
        self._appended = 0
        self._written = 0
        self._left_at = 0.0
        self._leaving: asyncio.Handle | None = None
        self._asking: asyncio.TimerHandle | None = None
        self._progress = asyncio.Event()

    def append(self, run_id: str, attempt: int, n: int, event: RunEvent) -> None:
        """Say event `n`. Never waits: see `room`."""
        self._pending.append((keys.events(run_id), f"{attempt}-{n}", encode_event(event)))
        self._appended += 1
        if self._leaving is None:
            self._leave_soon()

    @property
    def pending(self) -> int:
        """Events that Redis has not acknowledged."""
        return len(self._pending)

    @property
    def is_full(self) -> bool:
        """Whether more waits here than should: then `room` is to be awaited before more is said."""
        return len(self._pending) > _MAX_PENDING

    async def room(self) -> None:
        """Wait until half of what may wait is gone."""
        await self._reach(self._appended - _MAX_PENDING // 2)

    async def flush(self) -> None:
        """Wait until all that was appended before this call is in Redis (or was refused as out of date)."""
        target = self._appended
        if self._written < target:
            self._send_now()
            if self._wire is not None:
                self._wire.take_replies()
            await self._reach(target)

    def say_again(self) -> None:
        """Connect anew, and say again what may be missing: a log lacks what this writer has said."""
        if self._wire is not None:
            self._wire.close()

    async def run(self) -> None:
        """Stay connected and write until cancelled."""
        delay_s = _RETRY_S
        while True:
            try:
                self._wire = await RedisWire.open(self._redis, self._on_reply)
                delay_s = _RETRY_S
                self._take_back()
                self._send_now()
                await self._watch(self._wire)
            except (RedisError, OSError) as error:
                _log.warning("events_delayed", waiting=len(self._pending), error=str(error))
            finally:
                self._detach()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_RETRY_S)

    def _take_back(self) -> None:
        """What was kept is to be said before all else."""
        again = self._kept.take()
        self._pending.extendleft(reversed(again))
        self._again, self._mended = self._again + len(again), 0
        self._written -= len(again)

    def _leave_soon(self) -> None:
        loop = self._loop
        due = self._left_at + _GATHER_S
        if loop.time() >= due:
            self._leaving = loop.call_soon(self._send_now)
        else:
            self._leaving = loop.call_at(due, self._send_now)

    def _send_now(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        wire = self._wire
        batch = list(islice(self._pending, self._in_flight, _MAX_IN_FLIGHT))
        if wire is None or not batch:
            return
        commands: list[Command] = []
        for name, event_id, data in batch:
            # A log that has lapsed stays gone: made anew, it would have no time to live.
            commands.append(("XADD", name, "NOMKSTREAM", event_id, "e", data))
            commands.append(("PUBLISH", name, event_id.encode() + b" " + data))
        if self._asking is None:
            wire.hold_replies()
        wire.send(commands)
        self._in_flight += len(batch)
        self._left_at = self._loop.time()
        if self._asking is None:
            self._asking = self._loop.call_later(_ANSWERS_S, wire.take_replies)

    def _on_reply(self, reply: Any) -> None:
        """Count an answer: two for each event, `XADD`'s first. One refusal is as good as done.

        An id that is not above the newest is a repeat of ours after a lost answer, or is of an attempt
        that has been superseded. On any other error the wire is left, and all is sent again.
        """
        if self._wire is None:
            return
        is_error = isinstance(reply, hiredis.ReplyError)
        if is_error and _OUT_OF_DATE not in str(reply):
            _log.warning("event_refused", error=str(reply))
            self._wire.close()
            self._wire = None
            return
        self._answers += 1
        if self._answers % 2:
            self._answer = reply
        else:
            said = self._pending.popleft()
            if self._answer is not None:  # else there is no such log
                self._kept.add(said)
            if self._again:
                self._note_again()
            self._in_flight -= 1
            self._written += 1
            self._progress.set()
            if self._in_flight == 0:
                self._all_answered()

    def _note_again(self) -> None:
        self._again -= 1
        self._mended += isinstance(self._answer, bytes)
        if self._again == 0 and self._mended:
            _log.warning("log_mended", events=self._mended)

    def _all_answered(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        if self._pending:
            self._send_now()

    async def _watch(self, wire: RedisWire) -> None:
        """Wait for the wire's end, and make one of a silence that is too long."""
        while not wire.lost.is_set():
            written = self._written
            had_asked = self._in_flight > 0
            try:
                async with asyncio.timeout(_ANSWER_LIMIT_S):
                    await wire.lost.wait()
            except TimeoutError:
                if had_asked and self._written == written:
                    _log.warning("events_unanswered", waiting=len(self._pending))
                    return

    def _detach(self) -> None:
        """Nothing is in flight any more: what was not answered is sent again on the next wire."""
        if self._wire is not None:
            self._wire.close()
        if self._asking is not None:
            self._asking.cancel()
        self._wire = self._asking = None
        self._in_flight = self._answers = 0

    async def _reach(self, count: int) -> None:
        while self._written < count:
            self._progress.clear()
            await self._progress.wait()


class _Kept:
    """The newest events that were acknowledged, in order, within a bound."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, str, bytes]] = deque()
        self._bytes = 0

    def add(self, event: tuple[str, str, bytes]) -> None:
        self._events.append(event)
        self._bytes += len(event[2])
        while self._bytes > _MOST_KEPT_BYTES or len(self._events) > _MOST_KEPT:
            self._bytes -= len(self._events.popleft()[2])

    def take(self) -> list[tuple[str, str, bytes]]:
        """All of them; they are kept no longer."""
        events = list(self._events)
        self._events.clear()
        self._bytes = 0
        return events
