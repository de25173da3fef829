"""Fallbacks in their order, until one answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from shared.fallbacks import Fallback
from shared.run_events import ErrorKind, FellBack, RunError, RunEvent, RunFailed, TerminalEvent
from shared.runs import RunRequest
from worker.fallback.breaker import Breakers, Outcome, Way
from worker.fallback.hearing import Hearing, UnreadableError
from worker.fallback.service import ServiceError, Services
from worker.turn import Reporter

_log = structlog.get_logger(__name__)


class NoneAnsweredError(Exception):
    """Every fallback failed before its first word; `tried` says which, and why."""

    def __init__(self, tried: Sequence[str]) -> None:
        super().__init__(", ".join(tried))
        self.tried = tried


class Fallbacks:
    """Asks fallbacks. `counts` has how often each ended how (`answered`, `failed`, `broke_off`, `shut`)."""

    def __init__(self, fallbacks: Sequence[Fallback], services: Services, breakers: Breakers) -> None:
        self._fallbacks = fallbacks
        self._services = services
        self._breakers = breakers
        self.counts: Counter[tuple[str, str]] = Counter()

    @property
    def circuits(self) -> list[str]:
        """The names of their breakers."""
        return [_circuit(each) for each in self._fallbacks]

    def of(self, request: RunRequest) -> list[Fallback]:
        """Those that have a model for what is asked."""
        return [each for each in self._fallbacks if each.model_for(request.agent, request.model)]

    async def answer(self, request: RunRequest, because: ErrorKind, reporter: Reporter) -> TerminalEvent:
        """Have one answer, say its events, and give the terminal one, which is not said yet.

        Raises `NoneAnsweredError` when nothing was said.
        """
        tried: list[str] = []
        for fallback in self.of(request):
            leave = await self._breakers.ask(_circuit(fallback))
            if leave.way is Way.SHUT:
                self._count(fallback, "shut")
                tried.append(f"{fallback.label} (its circuit is open)")
                continue
            attempt = _Attempt(self._services, fallback, request, because, reporter)
            outcome: Outcome = "neither"
            try:
                event = await attempt.run()
                outcome = "good"
            except ServiceError as error:
                outcome = "bad" if error.is_down else "neither"
                tried.append(f"{fallback.label} ({error})")
                self._count(fallback, "broke_off" if attempt.has_spoken else "failed", error=str(error))
                if attempt.has_spoken:
                    said = f"The fallback {fallback.label!r} broke off in the middle of its answer."
                    return RunFailed(error=RunError(ErrorKind.UPSTREAM_ERROR, said))
            else:
                self._count(fallback, "answered", because=because)
                return event
            finally:
                await self._breakers.note(_circuit(fallback), leave, outcome)
        raise NoneAnsweredError(tried)

    def _count(self, fallback: Fallback, outcome: str, **more: str) -> None:
        self.counts[fallback.label, outcome] += 1
        _log.info("fallback_tried", fallback=fallback.label, outcome=outcome, **more)


class _Attempt:
    """One fallback asked once."""

    def __init__(
        self,
        services: Services,
        fallback: Fallback,
        request: RunRequest,
        because: ErrorKind,
        reporter: Reporter,
    ) -> None:
        self._services = services
        self._fallback = fallback
        self._request = request
        self._reporter = reporter
        self._fell_back = FellBack(fallback.label, fallback.model_for(request.agent, request.model), because)
        self.has_spoken = False

    async def run(self) -> TerminalEvent:
        """Raises `ServiceError`."""
        hearing = Hearing(self._request, self._fell_back)
        async with self._services.stream(self._fallback, self._request) as stream:
            async for data in stream:
                try:
                    events = hearing.feed(data)
                except UnreadableError as error:
                    raise ServiceError(str(error)) from error
                for event in events:
                    self._say(event)
                if self._reporter.is_full:
                    await self._reporter.room()
        if not hearing.is_whole:
            raise ServiceError("it stopped in the middle of its answer")
        if not self.has_spoken:
            self._reporter.say(self._fell_back)
        return hearing.terminal()

    def _say(self, event: RunEvent) -> None:
        if not self.has_spoken:
            self.has_spoken = True
            self._reporter.say(self._fell_back)
        self._reporter.say(event)


def _circuit(fallback: Fallback) -> str:
    return f"fallback:{fallback.label}"
