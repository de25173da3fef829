"""A command at a terminal of its own, as a person sits at one."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_S = 40.0


class Terminal:
    """What was typed and what has appeared, in one text."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self._master = master
        self._process = process
        self._seen = 0
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str) -> None:
        """Wait until `text` appears, after what was waited for before."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while (found := self.screen.find(text, self._seen)) < 0:
            assert time.monotonic() < give_up_at, f"{text!r} does not appear:\n{self.screen[self._seen :]}"
            self._read()
        self._seen = found + len(text)

    def exit_code(self) -> int:
        """Wait for the end of the command."""
        give_up_at = time.monotonic() + _PATIENCE_S
        while self._process.poll() is None:
            assert time.monotonic() < give_up_at, f"it does not end:\n{self.screen[-2000:]}"
            self._read()
        return self._process.wait()

    def _read(self) -> None:
        if select.select([self._master], [], [], 0.1)[0]:
            with suppress(OSError):  # the other end is closed: the command has ended
                self.screen += os.read(self._master, 65536).decode(errors="replace")


@contextmanager
def at_terminal(argv: Sequence[str], env: Mapping[str, str], cwd: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    # A session of its own, whose terminal this is: Ctrl-C comes from it.
    take = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    take += "os.execv(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", take, *argv],
        env={**env, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        cwd=cwd,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(master)
