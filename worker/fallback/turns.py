"""Turns that need not end in an error when Claude cannot serve: a fallback takes them over, as yet unseen.

It is part of the worker, behind the claim and before the run's log: what a fallback says are events of the
same run. So limits, usage, streams, stored answers and batches know nothing of it.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import structlog

from shared.fallbacks import agent_only
from shared.run_events import (
    ErrorKind,
    OutputEvent,
    RunCancelled,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    TerminalEvent,
)
from shared.runs import RunRequest
from shared.settings import Settings
from shared.tasks import end_tasks
from worker.fallback.breaker import Breakers, Leave, Outcome, Way
from worker.fallback.fallbacks import Fallbacks, NoneAnsweredError
from worker.recovery import Lost
from worker.turn import Reporter, Stop

_CANNOT_SERVE = frozenset(
    {
        ErrorKind.AGENT_UNAVAILABLE,
        ErrorKind.CLI_NOT_STARTED,
        ErrorKind.CLI_DIED,
        ErrorKind.AGENT_OUT_OF_MEMORY,
        ErrorKind.UPSTREAM_AUTH,
        ErrorKind.UPSTREAM_RATE_LIMITED,
        ErrorKind.UPSTREAM_OVERLOADED,
        ErrorKind.UPSTREAM_ERROR,
        ErrorKind.SILENT,
        ErrorKind.STORAGE_FULL,
    }
)
"""Failures that are Claude's and not the request's: somebody else may do better."""
_BREAKS = _CANNOT_SERVE - {ErrorKind.AGENT_UNAVAILABLE}

_log = structlog.get_logger(__name__)


class Turns(Protocol):
    """What runs the turns of agents: `worker.turns.Turns`, or something before it."""

    async def run(self, request: RunRequest, reporter: Reporter, stop: Stop) -> None:
        """Run a turn to its terminal event."""

    async def recover(self, request: RunRequest, lost: Lost, reporter: Reporter, stop: Stop) -> None:
        """Go on with a turn whose worker was lost."""


def circuit_of(agent: str) -> str:
    """The name of an agent's breaker."""
    return f"claude:{agent}"


class FallbackTurns:
    """Turns with fallbacks behind them, and an agent's circuit breaker before it."""

    def __init__(self, turns: Turns, fallbacks: Fallbacks, breakers: Breakers, settings: Settings) -> None:
        self._turns = turns
        self._fallbacks = fallbacks
        self._breakers = breakers
        self._settings = settings

    async def run(self, request: RunRequest, reporter: Reporter, stop: Stop) -> None:
        """Run `request`, by a fallback if the agent cannot serve and has shown nothing."""
        circuit = circuit_of(request.agent)
        obstacle = self._obstacle(request)
        leave = Leave(Way.FREE) if obstacle is not None else await self._breakers.ask(circuit)
        if leave.way is Way.SHUT:
            failure: RunFailed | None = _shut(leave.wait_s)
        else:
            failure = await self._try(request, reporter, stop, circuit, leave)
        if failure is None:
            return
        if obstacle is not None:
            await reporter.conclude(_explained(failure, obstacle))
        else:
            await self._fall_back(request, failure, reporter, stop)

    async def recover(self, request: RunRequest, lost: Lost, reporter: Reporter, stop: Stop) -> None:
        """Go on with a turn that had shown something: that is the agent's alone."""
        await self._turns.recover(request, lost, reporter, stop)

    async def _try(
        self, request: RunRequest, reporter: Reporter, stop: Stop, circuit: str, leave: Leave
    ) -> RunFailed | None:
        """Let the agent take its turn; gives the failure that a fallback may mend, as yet unsaid."""
        held = _Held(reporter)
        outcome: Outcome = "neither"
        try:
            await self._turns.run(request, held, stop)
            outcome = held.outcome
        finally:
            await self._breakers.note(circuit, leave, outcome)
        return held.failure

    async def _fall_back(
        self, request: RunRequest, failure: RunFailed, reporter: Reporter, stop: Stop
    ) -> None:
        """Conclude with what a fallback says, within the run's own limits; else with the agent's failure."""
        limit_s = request.timeout_s or self._settings.run_timeout_s
        answering = asyncio.create_task(self._fallbacks.answer(request, failure.error.kind, reporter))
        watching = asyncio.create_task(stop.wait(limit_s))
        try:
            await asyncio.wait({answering, watching}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                event: TerminalEvent = answering.result()
            else:
                said = f"The run took longer than {limit_s:g} s."
                event = stop.event or RunFailed(error=RunError(ErrorKind.RUN_TIMEOUT, said))
        except NoneAnsweredError as error:
            event = _explained(failure, f"Fallbacks failed too: {error}.")
        finally:
            await end_tasks([answering, watching])
        await reporter.conclude(event)

    def _obstacle(self, request: RunRequest) -> str | None:
        """Why no fallback is to answer this, in words for its client if it should hear of it; else `None`."""
        if not request.may_fall_back or not self._fallbacks.of(request):
            return ""
        if names := agent_only(request):
            return f"No fallback can answer instead: only the agent itself can honour {', '.join(names)}."
        return None


class _Held:
    """A reporter that keeps back the failure of a turn that has shown nothing."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._has_output = False
        self.failure: RunFailed | None = None
        self.outcome: Outcome = "neither"

    def say(self, event: RunEvent) -> None:
        self._has_output = self._has_output or isinstance(event, OutputEvent)
        self._reporter.say(event)

    @property
    def is_full(self) -> bool:
        return self._reporter.is_full

    async def room(self) -> None:
        await self._reporter.room()

    async def conclude(self, event: TerminalEvent) -> None:
        match event:
            case RunCompleted():
                self.outcome = "good"
            case RunFailed(error=error):
                self.outcome = "bad" if error.kind in _BREAKS else "neither"
                if error.kind in _CANNOT_SERVE and not self._has_output:
                    self.failure = event
                    return
            case RunCancelled():
                pass
        await self._reporter.conclude(event)


def _shut(wait_s: float) -> RunFailed:
    said = "The agent has failed too often of late and is left alone for a while."
    return RunFailed(error=RunError(ErrorKind.UPSTREAM_OVERLOADED, said, max(1.0, wait_s)))


def _explained(failure: RunFailed, why: str) -> RunFailed:
    error = msgspec.structs.replace(failure.error, message=f"{failure.error.message} {why}".rstrip())
    return msgspec.structs.replace(failure, error=error)
