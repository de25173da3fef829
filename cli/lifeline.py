"""A process that must not outlive its parent, even when the parent is killed with SIGKILL.

The parent holds the write end of a pipe and its children inherit the read end: the kernel closes the write
end however the parent ends, and the children read end-of-file. Two forms of `python -m cli.lifeline`:

    FD run MODULE [ARG…]   runs a Python module, which gets a SIGTERM at end-of-file
    FD end PID             waits, then ends another program (a server that knows nothing of lifelines)
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_END_S = 10.0
"""A program that `end` asked to stop is killed after this time."""


class Lifeline(NamedTuple):
    """Both ends of the pipe. Every process that holds `hold` keeps the readers of `read` alive."""

    read: int
    hold: int


@contextmanager
def lifeline() -> Iterator[Lifeline]:
    """Open a lifeline; leaving the scope lets go of it. Neither end is inherited unless passed on by name."""
    read, hold = os.pipe()
    try:
        yield Lifeline(read, hold)
    finally:
        os.close(read)
        os.close(hold)


def python(line: Lifeline, *arguments: str) -> list[str]:
    """Return the command for one of the two forms; pass `line.read` on to it.

    `-P` keeps the working directory off the import path: a project may well have a folder called `api`.
    """
    return [sys.executable, "-P", "-m", "cli.lifeline", str(line.read), *arguments]


def main(arguments: list[str]) -> None:
    """Run one of the two forms in this process."""
    descriptor, form, target, *rest = arguments
    read = int(descriptor)
    os.set_inheritable(read, False)
    if form == "end":
        _end_after(read, int(target))
        return
    threading.Thread(target=_watch, args=(read,), name="lifeline", daemon=True).start()
    sys.argv = [target, *rest]
    runpy.run_module(target, run_name="__main__", alter_sys=True)


def _watch(read: int) -> None:
    os.read(read, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_after(read: int, pid: int) -> None:
    import psutil  # noqa: PLC0415 - only this form needs it, and every start of a child imports this module

    from cli.processes import end_stranger  # noqa: PLC0415

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        program = psutil.Process(pid)  # knows its start time: a later process with the same id is not meant
    except psutil.NoSuchProcess:
        return
    os.read(read, 1)
    end_stranger(program, _END_S)


if __name__ == "__main__":
    main(sys.argv[1:])
