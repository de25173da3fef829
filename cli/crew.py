"""The processes of one `backline up`: started one after another, watched together, ended in reverse."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import structlog

from cli.child import Child, Launch, child
from cli.comeback import Comeback
from cli.errors import CommandError, Stopped
from cli.lifeline import Lifeline, lifeline
from cli.stop import Stop, stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_log = structlog.get_logger("up")

_AFTER_A_DEATH_S = 5.0
"""When one process died by itself, the others get no longer than this to end in order."""


class Crew:
    """Starts children that cannot outlive this process; notices when one ends or the operator says stop."""

    def __init__(self, stack: AsyncExitStack, stop: Stop, line: Lifeline) -> None:
        self.stack = stack
        self.line = line
        self._stop = stop
        self._children: list[Child] = []
        self._comebacks: list[Comeback] = []
        self._is_up = False

    async def start(self, launch: Launch, on_line: Callable[[str], None] | None = None) -> Child:
        """Start a child; it ends with the crew, before everything that was started earlier."""
        started = await self.stack.enter_async_context(
            child(launch, on_line=on_line or echo(launch.name), at_once=self._stop.at_once)
        )
        self.watch(started)
        return started

    async def keep(self, launch: Launch) -> None:
        """Start a child that, once all are `up`, is started again when it ends by itself."""
        comeback = Comeback(launch, echo(launch.name), self._stop.at_once)
        await comeback.start()
        self.stack.push_async_callback(comeback.end)
        self._comebacks.append(comeback)

    def up(self) -> None:
        """All have started: from now on those that are kept come back. Before, a death is a failed start."""
        self._is_up = True

    def watch(self, started: Child) -> None:
        """Count a child that has an owner of its own among those whose death ends everything."""
        self._children.append(started)

    async def pause(self, timeout_s: float | None) -> None:
        """Wait, for ever if `timeout_s` is None, and start again who is to come back.

        Raises Stopped on request, CommandError if another child has ended.
        """
        clock = asyncio.get_running_loop().time
        until = None if timeout_s is None else clock() + timeout_s
        while True:
            ends = [each for each in (until, *(one.due_at for one in self._comebacks)) if each is not None]
            await self._wait(max(0.0, min(ends) - clock()) if ends else None)
            if self._stop.requested.done():
                raise Stopped
            for each in (*self._children, *(() if self._is_up else self._living())):
                if each.exited.done():
                    self._stop.hurry_in(_AFTER_A_DEATH_S)
                    raise CommandError(await obituary(each))
            for comeback in self._comebacks:
                await _look_after(comeback)
            if until is not None and clock() >= until:
                return

    def _living(self) -> list[Child]:
        return [comeback.child for comeback in self._comebacks if comeback.due_at is None]

    async def _wait(self, timeout_s: float | None) -> None:
        watched = {cast("asyncio.Future[object]", each.exited) for each in (*self._children, *self._living())}
        watched.add(cast("asyncio.Future[object]", self._stop.requested))
        await asyncio.wait(watched, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


async def _look_after(comeback: Comeback) -> None:
    if comeback.due_at is not None:
        if asyncio.get_running_loop().time() < comeback.due_at:
            return
        try:
            await comeback.start()
            return
        except OSError as error:  # no memory, no processes: not for ever
            said = f"A process did not start: {error.strerror}."
    elif comeback.child.exited.done():
        said = await obituary(comeback.child)
    else:
        return
    _log.warning("process_ended", said=said, again_in_s=await comeback.note_death())


@asynccontextmanager
async def crew() -> AsyncIterator[Crew]:
    """Open an empty crew that hears this process's stop signals."""
    with stop_signals() as stop, lifeline() as line:
        async with AsyncExitStack() as stack:
            yield Crew(stack, stop, line)


def echo(name: str) -> Callable[[str], None]:
    """Return a sink that writes each line to stderr behind the child's name."""

    def write(line: str) -> None:
        with suppress(OSError):  # a terminal that was closed must not keep the others from ending in order
            sys.stderr.write(f"{name:6} | {line}\n")
            sys.stderr.flush()

    return write


async def obituary(dead: Child) -> str:
    """Say how a child ended, with its last lines."""
    code = dead.exited.result()
    how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
    lines = await dead.last_lines()
    last = "".join(f"\n  {line}" for line in lines)
    return f"The {dead.name} process ended by itself, {how}; " + (
        f"the last it said:{last}" if last else "it said nothing."
    )
