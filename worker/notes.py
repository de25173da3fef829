"""What operators are shown of the runs here. A note that cannot be made is no failure of its run."""

from __future__ import annotations

import time

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.claims import Attempt
from shared.happenings import Happening, Happenings
from shared.run_events import (
    CallDelta,
    OutputEvent,
    RunEvent,
    RunFailed,
    TerminalEvent,
    TextDelta,
    ThinkingDelta,
    UpstreamRetry,
)
from shared.series import SeriesStore
from worker.metrics import AgentMeter

_PIECES = frozenset({TextDelta, ThinkingDelta, CallDelta})
"""What comes token by token."""

_log = structlog.get_logger(__name__)


class Watch:
    """Watches what one attempt says: when each output came, and how it ended."""

    def __init__(self, attempt: Attempt, meter: AgentMeter) -> None:
        self.attempt = attempt
        self.ended: TerminalEvent | None = None
        self.first_ms: int | None = None
        self._meter = meter
        self._gap = meter.gaps.note
        self._last_at: float | None = None
        self._began_at = time.monotonic()
        meter.began(attempt)

    def see(self, event: RunEvent) -> None:
        """Look at an event that is said: the token path, without a lock or a look-up."""
        if type(event) in _PIECES:
            now = time.monotonic()
            if self._last_at is not None:
                self._gap(now - self._last_at)
            elif self.first_ms is None:
                self._see_first(now)
            self._last_at = now
            return
        self._last_at = None  # a tool is at work
        if self.first_ms is None and isinstance(event, OutputEvent):
            self._see_first(time.monotonic())
        elif isinstance(event, UpstreamRetry):
            self._meter.retried(event)

    def close(self) -> None:
        """Count how it ended, unless it goes on elsewhere."""
        if self.ended is not None:
            self._meter.ended(self.ended, time.monotonic() - self._began_at)

    def _see_first(self, now: float) -> None:
        since_s = self.attempt.waited_s + now - self._began_at
        self.first_ms = round(1000 * since_s)
        if self.attempt.number == 1:
            self._meter.first_token.observe(since_s)


class Notes:
    """Notes for the dashboard, of runs on the worker `worker_id`."""

    def __init__(self, redis: Redis, worker_id: str) -> None:
        self._series = SeriesStore(redis)
        self._happenings = Happenings(redis)
        self._worker_id = worker_id

    async def moved(self, attempt: Attempt) -> None:
        """A run came here from a worker that was lost."""
        said = f"attempt {attempt.number} of {attempt.request.agent}, now on {self._worker_id}"
        await self._note(Happening(kind="run_moved", subject=attempt.run_id, said=said))

    async def ended(self, watch: Watch) -> None:
        """An attempt here is over."""
        try:
            if watch.first_ms is not None and watch.attempt.number == 1:
                await self._series.note_first_token(watch.first_ms)
        except (RedisError, OSError) as error:
            _log.warning("not_noted", error=str(error))
        if isinstance(watch.ended, RunFailed):
            await self.failed(watch.attempt.run_id, watch.attempt.request.agent, watch.ended)

    async def failed(self, run_id: str, agent: str, event: RunFailed) -> None:
        """A run ended in an error. The error's words may hold what was said, so only its kind is told."""
        await self._note(Happening(kind="run_failed", subject=run_id, said=f"{agent}: {event.error.kind}"))

    async def _note(self, happening: Happening) -> None:
        try:
            await self._happenings.note(happening)
        except (RedisError, OSError) as error:
            _log.warning("not_noted", error=str(error))
