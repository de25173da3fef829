"""`backline up --detach` and what goes with it: one Backline for each working directory, behind a shell.

What is known of it stands in the state directory of the user. A process is only taken for ours, and ended,
when its number, the time of its start and its command line all agree: numbers are used again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import psutil
from platformdirs import user_state_path

from cli.errors import CommandError
from cli.processes import end_stranger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_READY_S = 90.0
_POLL_S = 0.1
_SAME_START_S = 2.0
"""The kernel's time of a start moves a little when the clock is set."""
_MARGIN_S = 15.0
_MOST_LOG_BYTES = 16 * 1024 * 1024
_LAST_LINES = 12


class Record(msgspec.Struct, frozen=True):
    """A Backline that was started; `variables` are the flags it was given, as environment."""

    pid: int
    started: float
    variables: dict[str, str]


class Background:
    """The Backline of one working directory, as far as it is known here."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        self.place = user_state_path("backline") / "up" / name
        self.log = self.place / "up.log"

    @property
    def record(self) -> Record | None:
        """What was noted at the last start, if there was one."""
        try:
            return msgspec.json.decode((self.place / "up.json").read_bytes(), type=Record)
        except (OSError, msgspec.MsgspecError):
            return None

    @property
    def url(self) -> str:
        """Where the API is; empty until it is ready."""
        try:
            return (self.place / "ready").read_text("utf-8")
        except OSError:
            return ""

    def process(self) -> psutil.Process | None:
        """The process that runs, if it does and is ours."""
        record = self.record
        if record is None:
            return None
        try:
            found = psutil.Process(record.pid)
            is_ours = abs(found.create_time() - record.started) <= _SAME_START_S
            is_ours = is_ours and str(self.place) in found.cmdline()
            return found if is_ours and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None

    def environ(self) -> dict[str, str]:
        """The environment in which the one that runs was started; empty when none does, or it is not told."""
        try:
            return found.environ() if (found := self.process()) is not None else {}
        except psutil.Error:
            return {}

    def start(self, variables: Mapping[str, str]) -> str:
        """Start it and give its URL once it answers; raises `CommandError` when it runs or does not start."""
        with self._alone():
            if (running := self.process()) is not None:
                where = f" at {self.url}" if self.url else ""
                raise CommandError(
                    f"It runs already{where} (process {running.pid}); `backline restart` starts it anew."
                )
            (self.place / "ready").unlink(missing_ok=True)
            began = self._end_of_log()
            started = self._spawn(variables)
            try:
                return self._until_ready(started, began)
            except BaseException:
                if started.poll() is None:
                    end_stranger(psutil.Process(started.pid), _MARGIN_S)
                started.wait()
                (self.place / "up.json").unlink(missing_ok=True)
                raise

    def stop(self, drain_s: float) -> bool:
        """End it in order, within `drain_s` seconds and some; gives whether there was anything to end."""
        with self._alone():
            running = self.process()
            if running is not None:
                end_stranger(running, drain_s + _MARGIN_S)
            for name in ("up.json", "ready"):
                (self.place / name).unlink(missing_ok=True)
            return running is not None

    def lines(self, last: int, *, follow: bool) -> Iterator[str]:
        """The newest lines of its log, and with `follow` those that come, until it has ended."""
        try:
            file = self.log.open(encoding="utf-8", errors="replace")
        except OSError as error:
            raise CommandError(f"There is no log of {self.directory}: `backline up --detach`.") from error
        with file:
            yield from file.readlines()[-last:] if last else ()
            while follow:
                has_ended = self.process() is None
                while line := file.readline():
                    yield line
                if has_ended:
                    return
                if self._is_another(file.fileno()):
                    yield from self.lines(sys.maxsize, follow=True)
                    return
                time.sleep(_POLL_S)

    def _spawn(self, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        _keep_small(self.log)
        argv = [sys.executable, "-P", "-m", "cli.main", "up", "--background", str(self.place)]
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            started = subprocess.Popen(
                argv,
                env={**os.environ, **variables},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                start_new_session=True,  # a terminal that is closed is not its end
            )
        finally:
            os.close(descriptor)
        record = Record(started.pid, psutil.Process(started.pid).create_time(), dict(variables))
        path = self.place / "up.json"
        path.touch(mode=0o600)
        path.write_bytes(msgspec.json.encode(record))
        return started

    def _until_ready(self, started: subprocess.Popen[bytes], began: int) -> str:
        give_up_at = time.monotonic() + _READY_S
        while not (url := self.url):
            if started.poll() is not None:
                raise CommandError(f"It did not start:\n{self._said_since(began)}")
            if time.monotonic() > give_up_at:
                raise CommandError(f"Not ready within {_READY_S:.0f} s; `backline logs` says more.")
            time.sleep(_POLL_S)
        return url

    def _end_of_log(self) -> int:
        return self.log.stat().st_size if self.log.exists() else 0

    def _said_since(self, began: int) -> str:
        with self.log.open("rb") as file:
            file.seek(began if began <= self._end_of_log() else 0)
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(line.removeprefix("backline: ") for line in lines[-_LAST_LINES:])

    def _is_another(self, descriptor: int) -> bool:
        with suppress(OSError):
            return os.fstat(descriptor).st_ino != self.log.stat().st_ino
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of this directory: two starts at a time would make two of one."""
        try:
            self.place.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self.place / "lock").open("w")
        except OSError as error:
            raise CommandError(f"Cannot write in {self.place}: {error.strerror}.") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CommandError("Another command starts or stops it right now.") from error
            yield


def note_ready(place: Path, url: str) -> None:
    """Say, as the process in the background, that the API answers at `url`."""
    fresh = place / "ready.new"
    fresh.write_text(url, "utf-8")
    fresh.replace(place / "ready")


def bound_log(place: Path) -> None:
    """Go on, as the process in the background, in a new log when the old one is long; that one is kept."""
    log = place / "up.log"
    if not _keep_small(log):
        return
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)


def _keep_small(log: Path) -> bool:
    if not log.exists() or log.stat().st_size < _MOST_LOG_BYTES:
        return False
    log.replace(log.with_suffix(".log.1"))
    return True
