"""The worker's one way of saying what its runs say: events of all runs in one self-batching pipeline.

One task drains whatever waits into one round trip of `XADD` and `PUBLISH`. Idle, an event leaves at once;
under load events batch by themselves, because they gather while the last round trip is under way.
"""

from __future__ import annotations

import asyncio
from collections import deque

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.runs import RunEvent, encode_event

_BATCH = 512
_MAX_PENDING = 20_000
_FIRST_RETRY_S = 0.05
_LONGEST_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


class EventWriter:
    """Appends events in order. While Redis is away they wait here, up to a bound, and nothing is lost."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
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
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch = [self._pending[i] for i in range(min(_BATCH, len(self._pending)))]
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
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, event_id, data in batch:
                pipe.execute_command("XADD", name, event_id, "e", data)
                pipe.execute_command("PUBLISH", name, event_id.encode() + b" " + data)
            # Answers of single commands are not raised: the one refusal there is says "not above the newest
            # id", which is a repeat of ours or an attempt that has been superseded.
            await pipe.execute(raise_on_error=False)
