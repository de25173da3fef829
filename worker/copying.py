"""A bounded copy of a directory that never leads out of it."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

_CHUNK = 1024 * 1024


class CopyRefusedError(Exception):
    """The directory cannot be copied within the bounds; the message says which."""


class Bounds(msgspec.Struct, frozen=True):
    """The most a copy may have, in bytes and in files (directories and links count), and may take."""

    most_bytes: int
    most_files: int = 20_000
    most_s: float = 60.0


def copy_tree(source: Path, target: Path, bounds: Bounds, *, leave_out: Path | None = None) -> None:
    """Copy what is in the directory `source` to `target`, which must not exist.

    A link that stays inside leads to the same place in the copy; one that leads out is left out, and so
    are sockets, pipes and devices, and the directory `leave_out`. Raises `CopyRefusedError` or `OSError`.
    """
    _Copy(source.resolve(), target, bounds, leave_out.resolve() if leave_out is not None else None).run()


class _Copy:
    def __init__(self, source: Path, target: Path, bounds: Bounds, leave_out: Path | None) -> None:
        self._source = source
        self._target = target
        self._bounds = bounds
        self._leave_out = leave_out
        self._files = self._bytes = 0
        self._ends_at = time.monotonic() + bounds.most_s

    def run(self) -> None:
        self._target.mkdir(mode=0o700)
        for place, mode in self._walk(self._source):
            self._files += 1
            self._check()
            target = self._target / place.relative_to(self._source)
            if stat.S_ISDIR(mode):
                target.mkdir(mode=0o700)
            elif stat.S_ISLNK(mode):
                self._link(place, target)
            elif stat.S_ISREG(mode):
                self._file(place, target)

    def _walk(self, directory: Path) -> Iterator[tuple[Path, int]]:
        """Everything below `directory`, each directory before what is in it."""
        waiting = [directory]
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                found = [(Path(entry.path), entry.stat(follow_symlinks=False).st_mode) for entry in entries]
            for place, mode in found:
                if place == self._leave_out:
                    continue
                yield place, mode
                if stat.S_ISDIR(mode):
                    waiting.append(place)

    def _link(self, place: Path, target: Path) -> None:
        leads_to = Path(os.path.realpath(place))  # which, unlike `resolve`, takes a ring for a place
        if leads_to.is_relative_to(self._source):
            target.symlink_to(os.path.relpath(leads_to, place.parent))

    def _file(self, place: Path, target: Path) -> None:
        # Not through a link that was put there since it was looked at.
        with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW), "rb") as read, target.open("xb") as write:
            self._pour(read, write)
            os.fchmod(write.fileno(), stat.S_IMODE(os.fstat(read.fileno()).st_mode) & 0o700 | 0o600)

    def _pour(self, read: BinaryIO, write: BinaryIO) -> None:
        while chunk := read.read(_CHUNK):
            self._bytes += len(chunk)
            self._check()
            write.write(chunk)

    def _check(self) -> None:
        if self._bytes > self._bounds.most_bytes:
            raise CopyRefusedError(
                f"The agent's directory holds more than the {self._bounds.most_bytes} bytes a copy may have."
            )
        if self._files > self._bounds.most_files:
            raise CopyRefusedError(
                f"The agent's directory holds more than the {self._bounds.most_files} files a copy may have."
            )
        if time.monotonic() > self._ends_at:
            raise CopyRefusedError(f"The copy took longer than {self._bounds.most_s:g} s.")
