"""What a turn says, on its way into the run's log; and whether its last word is said, or the run put back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeGuard

from shared.event_writer import EventWriter
from shared.run_events import (
    ErrorKind,
    OutputEvent,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    TerminalEvent,
)
from worker.notes import Watch
from worker.pauses import REFUSALS


class LogReporter:
    """Numbers the events of one attempt and hands them to the writer; `end` writes the terminal one.

    For `patience_s` seconds a run that the model's service refused may be put back; `None`: it never is.
    """

    def __init__(
        self,
        writer: EventWriter,
        watch: Watch,
        end: Callable[[TerminalEvent], Awaitable[None]],
        patience_s: float | None,
    ) -> None:
        self._writer = writer
        self._watch = watch
        self._attempt = watch.attempt
        self.n = watch.attempt.n
        """Number of the last event that was said."""
        self._end = end
        self._clock = asyncio.get_running_loop().time
        self._patient_until = None if patience_s is None else self._clock() + patience_s
        self.was_heard = asyncio.Event()
        """Set when the model has answered anything."""
        self.refusal: RunError | None = None
        """What the model's service refused it with."""
        self.killed: RunFailed | None = None
        """How a CLI was killed before it had said anything; then no last word was said."""
        self.is_put_back = False
        """Whether it is to wait again, and no last word was said."""

    def say(self, event: RunEvent) -> None:
        """Hand an event to the writer."""
        if not self.was_heard.is_set() and isinstance(event, OutputEvent):
            self.was_heard.set()
        self.n += 1
        self._watch.see(event)
        self._writer.append(self._attempt.run_id, self._attempt.number, self.n, event)

    @property
    def is_full(self) -> bool:
        """Whether the writer is behind."""
        return self._writer.is_full

    async def room(self) -> None:
        """Wait until the writer has caught up."""
        await self._writer.room()

    async def conclude(self, event: TerminalEvent) -> None:
        """Say the last event, unless the run is to wait again, or to be tried again."""
        if _is_killed(event) and not self.was_heard.is_set():
            self.killed = event
            return
        if not isinstance(event, RunFailed) or event.error.kind not in REFUSALS:
            if isinstance(event, RunCompleted):
                self.was_heard.set()
            await self._say_last(event)
            return
        self.refusal = event.error
        if self.was_heard.is_set() or self._patient_until is None:
            await self._say_last(event)
        elif self._clock() < self._patient_until:
            self.is_put_back = True
        else:
            said = "The model's service takes no more requests of this server for now."
            error = RunError(ErrorKind.UPSTREAM_RATE_LIMITED, said, event.error.retry_after_s)
            await self._say_last(RunFailed(error=error, usage=event.usage))

    async def _say_last(self, event: TerminalEvent) -> None:
        self._watch.ended = event
        await self._end(event)


def _is_killed(event: TerminalEvent) -> TypeGuard[RunFailed]:
    return isinstance(event, RunFailed) and event.error.kind is ErrorKind.AGENT_OUT_OF_MEMORY
