"""The processes of one `backline up`: started one after another, watched together, ended in reverse."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

from cli.child import Child, Launch, child
from cli.errors import CommandError, Stopped
from cli.lifeline import Lifeline, lifeline
from cli.stop import Stop, stop_signals

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_AFTER_A_DEATH_S = 5.0
"""When one process died by itself, the others get no longer than this to end in order."""


class Crew:
    """Starts children that cannot outlive this process; notices when one ends or the operator says stop."""

    def __init__(self, stack: AsyncExitStack, stop: Stop, line: Lifeline) -> None:
        self.stack = stack
        self.line = line
        self._stop = stop
        self._children: list[Child] = []

    async def start(self, launch: Launch, on_line: Callable[[str], None] | None = None) -> Child:
        """Start a child; it ends with the crew, before everything that was started earlier."""
        started = await self.stack.enter_async_context(
            child(launch, on_line=on_line or echo(launch.name), at_once=self._stop.at_once)
        )
        self.watch(started)
        return started

    def watch(self, started: Child) -> None:
        """Count a child that has an owner of its own among those whose death ends everything."""
        self._children.append(started)

    async def pause(self, timeout_s: float | None) -> None:
        """Wait, for ever if `timeout_s` is None. Raises Stopped on request, CommandError if a child ended."""
        watched = {cast("asyncio.Future[object]", each.exited) for each in self._children}
        watched.add(cast("asyncio.Future[object]", self._stop.requested))
        await asyncio.wait(watched, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._stop.requested.done():
            raise Stopped
        for each in self._children:
            if each.exited.done():
                self._stop.hurry_in(_AFTER_A_DEATH_S)
                raise CommandError(await obituary(each))


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
