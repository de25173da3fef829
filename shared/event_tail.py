"""Reading a run's events: from any process, from any place, without gap or repeat.

Each process holds one subscriber connection. A tail subscribes first, then replays the stream, then goes
live; whatever pub/sub misses (a reconnect, a slow reader) is read from the stream.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress

from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.run_events import TERMINAL_STATES, LoggedEvent, RunStarted, decode_event
from shared.subscriber import Subscriber

_PAGE = 500
_MAX_BUFFERED = 2_000
_SUBSCRIBE_S = 5.0
_TICK_S = 0.25
_MEND_S = 10.0
"""A worker that lost its connection is back sooner, and says again what the log lacks (`EventWriter`)."""


class EventsLostError(Exception):
    """The log itself lacks an event: Redis has lost a part of what it had acknowledged."""


class Cursor:
    """A reader's place in a log. Accepts what comes next, drops repeats, and notices holes.

    Once it has seen an event it also notices a log that has forgotten it, and goes on in other words.
    """

    def __init__(self, after: int = 0) -> None:
        self.n = after
        self.attempt = 0
        self.is_placed = False
        """Whether `attempt` is that of event `n`."""
        self.worker = ""
        """Who began that attempt, if its beginning was read."""
        self.is_done = False
        self.behind_since: float | None = None
        """When (monotonic, s) the log was first seen to lack what had been read from it."""

    @property
    def place(self) -> str:
        """The id of the last event that was read."""
        return f"{self.attempt}-{self.n}"

    def accept(self, events: Sequence[LoggedEvent]) -> tuple[list[LoggedEvent], bool]:
        """Give the events that come next, and whether one was missing (then the rest is dropped too)."""
        accepted: list[LoggedEvent] = []
        for event in events:
            if event.n <= self.n:  # a repeat, but it shows how far the attempts had come by then
                if self.is_placed and event.attempt > self.attempt:  # not one: what was read is forgotten
                    return accepted, True
                self.attempt = max(self.attempt, event.attempt)
                self.is_placed = self.is_placed or event.n == self.n
                continue
            if event.attempt < self.attempt or self.is_done:
                continue
            if event.n != self.n + 1:
                return accepted, True
            accepted.append(event)
            self.n, self.attempt, self.is_placed = event.n, event.attempt, True
            if isinstance(event.event, RunStarted):
                self.worker = event.event.worker
            self.is_done = type(event.event) in TERMINAL_STATES
        return accepted, False


class EventHub:
    """One subscriber connection for all tails of a process; `run` must be running."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._subscriber = Subscriber(redis, self._on_message, self._on_subscribed)
        self._feeds: dict[bytes, list[_Feed]] = {}

    async def run(self) -> None:
        """Feed the tails until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._subscriber.run())
            while True:
                await asyncio.sleep(_TICK_S)
                for feed in [feed for feeds in self._feeds.values() for feed in feeds]:
                    feed.tick()

    async def tail(
        self, run_id: str, cursor: Cursor, *, tick_s: float
    ) -> AsyncGenerator[list[LoggedEvent], None]:
        """Yield the events behind `cursor`, in batches as they come, to the terminal one.

        The cursor moves along, so that a reader can come back with it. An empty batch is yielded whenever
        `tick_s` seconds pass without an event, so that the caller can look after whoever waits. Raises
        `redis.RedisError` when the stream cannot be read, and `EventsLostError` when what comes next is not
        in it, for then it will never come, or when what was read is in it no more: a replica of Redis has
        taken over that had not got so far.
        """
        with self._feed(keys.events(run_id), tick_s) as feed:
            self._subscriber.add([keys.events(run_id)])
            with suppress(TimeoutError):  # Redis is away: ticks read the stream until it is back
                async with asyncio.timeout(_SUBSCRIBE_S):
                    await feed.is_subscribed.wait()
            while not cursor.is_done:
                if feed.has_gap:
                    feed.restart()
                    async for page in self._replay(run_id, cursor):
                        yield page
                    continue
                messages = await feed.take()
                events, is_torn = cursor.accept([_parse_message(message) for message in messages])
                if is_torn or not messages:  # silence too is checked against the stream
                    feed.mark_gap()
                if events or not messages:
                    yield events

    async def log(self, run_id: str) -> list[LoggedEvent]:
        """The run's events so far up to the first that is lost, none once they have lapsed.

        Raises `redis.RedisError`.
        """
        events: list[LoggedEvent] = []
        with suppress(EventsLostError):
            async for page in self._replay(run_id, Cursor()):
                events += page
        return events

    async def _replay(self, run_id: str, cursor: Cursor) -> AsyncIterator[list[LoggedEvent]]:
        start = f"({cursor.place}" if cursor.is_placed else "-"
        if cursor.is_placed and not await self._has_not_fallen_back(run_id, cursor):
            return
        while not cursor.is_done:
            entries = await self._redis.xrange(keys.events(run_id), min=start, count=_PAGE)
            events, is_torn = cursor.accept([_parse(entry_id, fields[b"e"]) for entry_id, fields in entries])
            if events:
                yield events
            if is_torn:  # numbers only grow: no worker can fill the hole
                raise EventsLostError
            if len(entries) < _PAGE:
                return
            start = f"({entries[-1][0].decode()}"

    async def _has_not_fallen_back(self, run_id: str, cursor: Cursor) -> bool:
        """Whether the log has what was read last; if not, its worker may be about to say it again.

        Raises `EventsLostError` when that is not to be, or has taken too long.
        """
        log, begin = keys.events(run_id), f"{cursor.attempt}-0"
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xrange(log, min=cursor.place, max=cursor.place)
            pipe.xrange(log, min=begin, count=1)
            pipe.xrevrange(log, min=begin, count=1)
            last, *ends = await pipe.execute()
        first, newest = ([_parse(entry_id, fields[b"e"]) for entry_id, fields in end] for end in ends)
        if not first or not _is_of(first[0], cursor) or (not last and newest[0].attempt != cursor.attempt):
            raise EventsLostError
        if last:
            cursor.behind_since = None
            return True
        now = time.monotonic()
        cursor.behind_since = cursor.behind_since or now
        if now - cursor.behind_since > _MEND_S:
            raise EventsLostError
        return False

    @contextmanager
    def _feed(self, channel: str, tick_s: float) -> Iterator[_Feed]:
        feed = _Feed(tick_s)
        feeds = self._feeds.setdefault(channel.encode(), [])
        feeds.append(feed)
        try:
            yield feed
        finally:
            feeds.remove(feed)
            if not feeds:
                del self._feeds[channel.encode()]
                self._subscriber.remove(channel)

    def _on_message(self, channel: bytes, data: bytes) -> None:
        for feed in self._feeds.get(channel, ()):
            feed.push(data)

    def _on_subscribed(self, channel: bytes) -> None:
        for feed in self._feeds.get(channel, ()):
            feed.is_subscribed.set()
            feed.mark_gap()


class _Feed:
    """What one tail has yet to read. Past its bound it keeps nothing: the stream has it all."""

    def __init__(self, tick_s: float) -> None:
        self.has_gap = True
        self._tick_s = tick_s
        self._silent_s = 0.0
        self.is_subscribed = asyncio.Event()
        self._messages: list[bytes] = []
        self._wake = asyncio.Event()

    def push(self, message: bytes) -> None:
        if len(self._messages) >= _MAX_BUFFERED:
            self.mark_gap()
        elif not self.has_gap:
            self._messages.append(message)
            self._silent_s = 0.0
            self._wake.set()

    def tick(self) -> None:
        """Let time pass: `tick_s` seconds of silence wake the reader; a timer per event would cost more."""
        self._silent_s += _TICK_S
        if self._silent_s >= self._tick_s:
            self._silent_s = 0.0
            self._wake.set()

    def mark_gap(self) -> None:
        """Something may have been missed: what was collected is dropped and the stream is read."""
        self.has_gap = True
        self._messages.clear()
        self._wake.set()

    def restart(self) -> None:
        """Collect again: what comes from now on follows, or overlaps, what a replay will read."""
        self.has_gap = False
        self._messages.clear()
        self._wake.clear()

    async def take(self) -> list[bytes]:
        """All that has come, or nothing after a silence."""
        if not self._messages and not self.has_gap:
            await self._wake.wait()
        messages, self._messages = self._messages, []
        self._wake.clear()
        return messages


def _is_of(first: LoggedEvent, cursor: Cursor) -> bool:
    """Whether an attempt's first event is that of the attempt which the cursor has read."""
    if isinstance(first.event, RunStarted) and cursor.worker:
        return first.attempt == cursor.attempt and first.event.worker == cursor.worker
    return first.attempt == cursor.attempt


def _parse(entry_id: bytes, data: bytes) -> LoggedEvent:
    attempt, _, n = entry_id.partition(b"-")
    return LoggedEvent(attempt=int(attempt), n=int(n), event=decode_event(data))


def _parse_message(message: bytes) -> LoggedEvent:
    entry_id, _, data = message.partition(b" ")
    return _parse(entry_id, data)
