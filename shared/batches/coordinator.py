"""Who sees to batches: any process that can execute a line, one at a time for each batch, by a lease.

All it knows stands in Redis and in blobs, and every step may be taken again by another: a run's id comes from
the batch and the line, a result is noted once, and blobs are put in place of themselves.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.batches.drive import Drive, Parts
from shared.batches.records import Lease
from shared.batches.store import LeaseLostError
from shared.tasks import end_tasks

_POLL_S = 1.0
_MOST_BATCHES = 16
_AGAIN_S = 2.0

_log = structlog.get_logger(__name__)


class Coordinator:
    """Sees to batches while `run` is running."""

    def __init__(self, parts: Parts, *, renew_s: float = 1.0) -> None:
        self._parts = parts
        self._renew_s = renew_s
        self._bell = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def ring(self) -> None:
        """Look for batches now."""
        self._bell.set()

    async def run(self) -> None:
        """Take batches and move them on until cancelled; those under way are given back then."""
        try:
            while True:
                self._bell.clear()
                with suppress(RedisError, OSError):
                    for lease in await self._parts.store.claim(_MOST_BATCHES - len(self._tasks)):
                        task = asyncio.create_task(self._see_to(lease))
                        self._tasks.add(task)
                        task.add_done_callback(self._tasks.discard)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._bell.wait()
        finally:
            await end_tasks(list(self._tasks))

    async def _see_to(self, lease: Lease) -> None:
        """Move one batch on to its end, or until it is another's."""
        with structlog.contextvars.bound_contextvars(batch_id=lease.batch_id):
            drive = Drive(self._parts, lease)
            moving = asyncio.create_task(drive.run())
            renewing = asyncio.create_task(self._renew(drive, lease))
            try:
                await asyncio.wait({moving, renewing}, return_when=asyncio.FIRST_COMPLETED)
                if moving.done():
                    await self._report(moving)
            finally:
                await end_tasks([moving, renewing])
                with suppress(RedisError, OSError):
                    await self._parts.store.release(lease)

    async def _report(self, moving: asyncio.Task[None]) -> None:
        error = moving.exception()
        if isinstance(error, LeaseLostError):
            _log.info("batch_left")
        elif error is not None:
            _log.error("batch_interrupted", exc_info=error)
            await asyncio.sleep(_AGAIN_S)

    async def _renew(self, drive: Drive, lease: Lease) -> None:
        """Keep the lease; ends when it is lost, or may be because Redis was away for as long as it lasts."""
        clock = asyncio.get_running_loop().time
        renewed_at = clock()
        while clock() - renewed_at < keys.LEASE_MS / 1000:
            try:
                drive.hear(await self._parts.store.renew(lease))
                renewed_at = clock()
            except LeaseLostError:
                return
            except (RedisError, OSError) as error:
                _log.warning("batch_not_renewed", error=str(error))
            await asyncio.sleep(self._renew_s)
