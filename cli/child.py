"""One child process: its output, its exit, and its end, owned by a scope."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import msgspec
import psutil

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

_TAIL_LINES = 12
_LAST_WORDS_S = 0.5
"""Output may still be in the pipe when the exit is already known."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to start, and how to end it."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    """None: this process's own environment."""
    cwd: Path | None = None
    pass_fds: tuple[int, ...] = ()
    drain_s: float = 10.0
    """From the SIGTERM that asks it to end to the SIGKILL of what is left."""


class Child(asyncio.SubprocessProtocol):
    """A running child. `exited` resolves to its exit code, negative for a signal."""

    def __init__(self, name: str, on_line: Callable[[str], None] | None) -> None:
        self.name = name
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._silent = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._partial = b""
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def pid(self) -> int:
        """The process id, also the id of the child's own process group."""
        assert self._transport is not None  # noqa: S101 - set before anybody else sees the child
        return self._transport.get_pid()

    async def last_lines(self) -> list[str]:
        """Return the newest lines of output, oldest first; after the exit, they are the last ones."""
        if self.exited.done():
            await asyncio.wait({self._silent}, timeout=_LAST_WORDS_S)
        return list(self._tail)

    async def end(self, drain_s: float, at_once: asyncio.Future[None] | None) -> None:
        """Ask the child to end; kill its tree after `drain_s` seconds, or when `at_once` resolves."""
        descendants = _descendants(self.pid) if not self.exited.done() else []
        if not self.exited.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            waited: set[asyncio.Future[object]] = {cast("asyncio.Future[object]", self.exited)}
            if at_once is not None:
                waited.add(cast("asyncio.Future[object]", at_once))
            await asyncio.wait(waited, timeout=drain_s, return_when=asyncio.FIRST_COMPLETED)
        if not self.exited.done():
            descendants += _descendants(self.pid)
        with suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.pid, signal.SIGKILL)
        for process in descendants:
            with suppress(
                psutil.NoSuchProcess
            ):  # psutil compares start times: never a stranger with an old id
                process.kill()
        await self.exited

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio calls this)."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        """Cut output into lines (asyncio calls this)."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line)

    def process_exited(self) -> None:
        """Note the exit code (asyncio calls this)."""
        assert self._transport is not None  # noqa: S101 - asyncio calls connection_made first
        if not self.exited.done():
            self.exited.set_result(cast("int", self._transport.get_returncode()))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Note that nothing more will be said (asyncio calls this)."""
        if self._partial:
            self._take(self._partial)
        if not self._silent.done():
            self._silent.set_result(None)

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        self._tail.append(text)
        if self._on_line is not None:
            self._on_line(text)


@asynccontextmanager
async def child(
    launch: Launch,
    *,
    on_line: Callable[[str], None] | None = None,
    at_once: asyncio.Future[None] | None = None,
) -> AsyncIterator[Child]:
    """Run a child in a session of its own and end it, its descendants included, when the scope closes.

    `on_line` gets every line of its output, stdout and stderr together. Raises OSError when it cannot start.
    A session of its own keeps a terminal's Ctrl-C from reaching all children at once, out of order.
    """
    transport, running = await asyncio.get_running_loop().subprocess_exec(
        lambda: Child(launch.name, on_line),
        *launch.argv,
        env=launch.env,
        cwd=launch.cwd,
        pass_fds=launch.pass_fds,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield running
    finally:
        try:
            await running.end(launch.drain_s, at_once)
        finally:
            transport.close()


def _descendants(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []
