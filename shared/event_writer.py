"""The worker's one way of saying what its runs say: events of all runs in one self-batching pipeline.

One task drains whatever waits into one round trip of `XADD` and `PUBLISH`. Idle, an event leaves at once;
under load events batch by themselves, because they gather while the last round trip is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shared import redis_keys as keys
from shared.runs import RunEvent, encode_event

_BATCH = 512
_MAX_PENDING = 20_000
_FIRST_RETRY_S = 0.05
_LONGEST_RETRY_S = 1.0
_OUT_OF_DATE = "equal or smaller than the target stream top item"

_log = structlog.get_logger(__name__)


class EventWriter:
    """Appends events in order. While Redis is away they wait here, up to a bound, and nothing is lost."""

    def __init__(self, redis: Redis) -> None:
        self._connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        self._pending: deque[tuple[str, str, bytes]] = deque()
        self._appended = 0
        self._written = 0
        self._wake = asyncio.Event()
        self._progress = asyncio.Condition()

    async def append(self, run_id: str, attempt: int, n: int, event: RunEvent) -> None:
        """Queue event `n`; returns at once unless the bound on waiting events is reached."""
        self._pending.append((keys.events(run_id), f"{attempt}-{n}", encode_event(event)))
        self._appended += 1
        self._wake.set()
        if len(self._pending) > _MAX_PENDING:
            await self._reached(self._appended - _MAX_PENDING // 2)

    async def flush(self) -> None:
        """Wait until all that was appended before this call is in Redis (or was refused as out of date)."""
        await self._reached(self._appended)

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._pending:
                    await self._drain_once()
        finally:
            await self._connection.disconnect(nowait=True)

    async def _drain_once(self) -> None:
        batch = list(islice(self._pending, _BATCH))
        await self._write_until_done(batch)
        for _ in batch:
            self._pending.popleft()
        self._written += len(batch)
        async with self._progress:
            self._progress.notify_all()

    async def _reached(self, count: int) -> None:
        async with self._progress:
            await self._progress.wait_for(lambda: self._written >= count)

    async def _write_until_done(self, batch: list[tuple[str, str, bytes]]) -> None:
        """Write a batch, over again while Redis is away: a repeated `XADD` is refused by its id."""
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                return await self._write(batch)
            except (RedisError, OSError) as error:
                _log.warning("events_delayed", waiting=len(self._pending), error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_RETRY_S)

    async def _write(self, batch: list[tuple[str, str, bytes]]) -> None:
        """One round trip on a connection of our own: redis-py's pipeline object costs as much again."""
        commands: list[tuple[str | bytes, ...]] = []
        for name, event_id, data in batch:
            commands.append(("XADD", name, event_id, "e", data))
            commands.append(("PUBLISH", name, event_id.encode() + b" " + data))
        connection = self._connection
        try:
            await connection.connect()
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            refusals = [await self._answer() for _ in commands]
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        for refusal in refusals:
            if refusal is not None:
                raise refusal

    async def _answer(self) -> ResponseError | None:
        """Read one answer; give what was refused, save for an id that is not above the newest one.

        That one is a repeat of ours after a lost answer, or an attempt that has been superseded.
        """
        try:
            await self._connection.read_response()
        except ResponseError as error:
            return None if _OUT_OF_DATE in str(error) else error
        return None
