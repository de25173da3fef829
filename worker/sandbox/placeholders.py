"""Empty files that stand in for an agent's missing set-up, and go when nobody needs them any more."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

_EMPTY_FILES = {"CLAUDE.md": b"", "CLAUDE.local.md": b"", ".mcp.json": b'{"mcpServers":{}}\n'}
SET_UP = (*_EMPTY_FILES, ".claude")
"""What the CLI (2.1) starts by: hooks, servers, permissions, instructions."""


class Placeholders:
    """Empty files where an agent has no set-up: what is not there cannot be mounted read-only.

    What is about to be made is written down in `records` before. So it can be removed when no worker needs
    it any more, by the last of them to stop, or by the next to start where one was killed. What somebody has
    filled in the meantime stays.
    """

    def __init__(self, records: Path) -> None:
        self._records = records
        self._locks: dict[Path, int] = {}

    def make(self, directory: Path) -> None:
        """Put empty files where `directory` has none; what its worker cannot write, its agent cannot."""
        with suppress(OSError):
            self._hold(directory)
            if missing := [name for name in _stand_ins(directory) if not os.path.lexists(directory / name)]:
                self._write_down(directory, missing)
                fill(directory)

    def remove(self) -> None:
        """Leave the directories as they were found; no process of this worker may be left in them."""
        for directory, lock in self._locks.items():
            os.close(lock)
            self._remove_in(directory)
        self._locks.clear()

    def sweep(self) -> None:
        """Remove what workers left that were killed, where no other one is at work."""
        for directory in {_read(record).directory for record in self._records.glob("*.json")}:
            if directory:
                self._remove_in(Path(directory))

    def _hold(self, directory: Path) -> None:
        """Let other workers of this host know that the empty files are in use here."""
        if directory not in self._locks:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            self._locks[directory] = lock
            fcntl.flock(lock, fcntl.LOCK_SH)

    def _write_down(self, directory: Path, names: list[str]) -> None:
        self._records.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = self._records / f"{_digest(directory)}-{secrets.token_hex(8)}.json"
        place.write_bytes(msgspec.json.encode(_Record(str(directory), names)))

    def _remove_in(self, directory: Path) -> None:
        records = list(self._records.glob(f"{_digest(directory)}-*.json"))
        with suppress(BlockingIOError), _alone(directory):
            for record in records:
                for name in _read(record).names:
                    _remove_empty(directory / name)
                record.unlink(missing_ok=True)


class _Record(msgspec.Struct, frozen=True):
    """What was not in a directory before a worker stood in for it."""

    directory: str = ""
    names: list[str] = []


def fill(directory: Path) -> None:
    """Make what stands in for set-up that `directory` has not got; raises `OSError`."""
    for name in _stand_ins(directory):
        place = directory / name
        content = _EMPTY_FILES.get(name)
        with suppress(FileExistsError):
            if content is None:
                place.mkdir(mode=0o755)
                continue
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(file, "wb") as opened:
                opened.write(content)


def _stand_ins(directory: Path) -> list[str]:
    git = directory / ".git"
    return [*SET_UP, *([".git/hooks"] if git.is_dir() and not git.is_symlink() else [])]


def _remove_empty(place: Path) -> None:
    with suppress(OSError):
        if place.is_symlink():
            return
        if place.is_dir():
            place.rmdir()
        elif place.read_bytes() == _EMPTY_FILES.get(place.name):
            place.unlink()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Raise `BlockingIOError` if a worker is at work in `directory`; one that is gone is nobody's."""
    try:
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(lock)


def _digest(directory: Path) -> str:
    return hashlib.sha256(os.fsencode(directory)).hexdigest()[:32]


def _read(record: Path) -> _Record:
    """A record; an empty one for what was not written to its end, after which nothing was made."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return _Record()
