"""Readers that went away, and what becomes of the runs they read."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError

from api.accepted import AcceptedRun
from shared.repeats import Repeat
from shared.run_events import RunCancelled
from shared.run_store import RunStore

_SETTLE_S = 3.0
_OUTAGE_POLL_S = 0.25

_log = structlog.get_logger(__name__)


class _Left(NamedTuple):
    """The runs of one answer that a reader has left.

    `is_shared`: others may read them. `grace_s`: how long they wait for another; `None`: they have waited.
    """

    runs: tuple[AcceptedRun, ...]
    is_shared: bool
    grace_s: float | None


class Departures:
    """Cancels runs that nobody reads any more; `run` must be running.

    A process that ends while runs wait for another reader lets them go on to their end.
    """

    def __init__(self, store: RunStore, grace_s: float) -> None:
        self._store = store
        self._grace_s = grace_s
        self._left: asyncio.Queue[_Left] = asyncio.Queue()

    def add(self, runs: Sequence[AcceptedRun], repeat: Repeat | None, *, has_begun: bool) -> None:
        """Note that a reader of an answer's runs is gone; returns at once, even in a task being cancelled.

        Where the client may ask again, they wait for it a while: with an idempotency key; and where it counts
        its tries, unless the answer `has_begun`, because SDKs do not try again then.
        """
        waits = repeat is not None and (repeat.is_keyed or not has_begun)
        grace_s = self._grace_s if waits else 0.0
        self._left.put_nowait(_Left(tuple(runs), repeat is not None, grace_s))

    async def run(self) -> None:
        """Cancel until cancelled."""
        while True:
            left = await self._left.get()
            try:
                await self._let_go(left)
            except (RedisError, OSError) as error:
                _log.warning("cancel_delayed", run_id=left.runs[0].id, error=str(error))
                self._left.put_nowait(left)
                await asyncio.sleep(_OUTAGE_POLL_S)
            finally:
                self._left.task_done()

    async def settle(self) -> None:
        """Before the end: wait, within a bound, until what need not wait is cancelled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                await self._left.join()

    async def _let_go(self, left: _Left) -> None:
        if left.is_shared and left.grace_s is not None:
            await self._store.leave(run.id for run in left.runs)
            later = left._replace(grace_s=None)
            if left.grace_s:
                asyncio.get_running_loop().call_later(left.grace_s, self._left.put_nowait, later)
            else:
                self._left.put_nowait(later)
            return
        gone = RunCancelled(reason="The client went away.")
        first = left.runs[0].id if left.is_shared else ""
        for run in left.runs:
            await self._store.stop(run.id, run.agent, gone, gone.reason, unread_with=first)
