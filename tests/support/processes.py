"""Processes that tests start, and processes that tests look for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

BACKLINE = str(Path(sys.executable).with_name("backline"))
_END_S = 15.0


class Server:
    """A child process; what it says goes to `log`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                argv, env=dict(env), cwd=cwd, stdin=stdin, stdout=out, stderr=out
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(_END_S)

    def ask_to_end(self) -> None:
        self._process.terminate()

    def exit_code(self) -> int:
        """Wait for the exit."""
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.log.name} did not end in {_END_S:g} s:\n{self.tail()}") from None

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-3000:]


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def of_configuration(below: Path) -> list[psutil.Process]:
    """CLI processes and their descendants: those whose CLAUDE_CONFIG_DIR lies `below`."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CLAUDE_CONFIG_DIR", "").startswith(f"{below}/") and is_alive(process):
                found.append(process)
        except psutil.Error:  # gone meanwhile, or another user's
            continue
    return found


def with_argument(argument: str) -> list[psutil.Process]:
    """Processes that have `argument` as a word of their command line, whatever their environment."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if argument in process.cmdline() and is_alive(process):
                found.append(process)
        except psutil.Error:
            continue
    return found
