"""Directories as an agent's process sees them: what it may write, and what no process may plant there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import structlog

_EMPTY_FILES = {"CLAUDE.md": b"", "CLAUDE.local.md": b"", ".mcp.json": b'{"mcpServers":{}}\n'}
_SET_UP = (*_EMPTY_FILES, ".claude")
"""What the CLI (2.1) starts by: hooks, servers, permissions, instructions."""
_GIT_SET_UP = ("hooks", "config")
"""What git runs programs by; whoever uses git there next may not be in a sandbox."""

_log = structlog.get_logger(__name__)

Access = Literal["read-write", "read-only"]


class Mount(NamedTuple):
    """One entry of the file system inside: `source` of the host at `target`; with no `source`, nothing."""

    target: Path
    source: Path | None = None
    is_writable: bool = False


class Place(msgspec.Struct, frozen=True):
    """A directory that a process is given, at the path it has outside; its files may come from elsewhere."""

    directory: Path
    access: Access = "read-write"
    source: Path | None = None

    @property
    def files(self) -> Path:
        """Where the files are on the host."""
        return self.source or self.directory


class Placeholders:
    """Empty files where an agent has no set-up: what is not there cannot be mounted read-only.

    Those that were made here go with `remove`, unless they were filled or another worker serves the place.
    """

    def __init__(self) -> None:
        self._locks: dict[Path, int] = {}
        self._made: dict[Path, bytes | None] = {}

    def make(self, directory: Path) -> None:
        """Put empty files where `directory` has none; what its worker cannot write, its agent cannot."""
        with suppress(OSError):
            self._hold(directory)
            for name, content in _EMPTY_FILES.items():
                self._file(directory / name, content)
            self._folder(directory / ".claude")
            git = directory / ".git"
            if git.is_dir() and not git.is_symlink():
                self._folder(git / "hooks")

    def remove(self) -> None:
        """Remove what was made and is still empty; no process may be left that needs it."""
        for directory, lock in self._locks.items():
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._remove_in(directory)
            os.close(lock)
        self._locks.clear()

    def _hold(self, directory: Path) -> None:
        """Let other workers of this host know that their empty files are in use here."""
        if directory not in self._locks:
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            self._locks[directory] = lock
            fcntl.flock(lock, fcntl.LOCK_SH)

    def _file(self, place: Path, content: bytes) -> None:
        with suppress(FileExistsError):
            file = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(file, "wb") as opened:
                opened.write(content)
            self._made[place] = content

    def _folder(self, place: Path) -> None:
        with suppress(FileExistsError):
            place.mkdir(mode=0o755)
            self._made[place] = None

    def _remove_in(self, directory: Path) -> None:
        for place, content in self._made.items():
            if not place.is_relative_to(directory):
                continue
            with suppress(OSError):
                if content is None:
                    place.rmdir()
                elif not place.is_symlink() and place.read_bytes() == content:
                    place.unlink()


def mounts_of(place: Place, placeholders: Placeholders) -> Iterator[Mount]:
    """The mounts for one place: its files, and over them its set-up, which is read-only for every process."""
    directory = place.directory
    if place.access == "read-write" and (link := _linked_set_up(place.files)):
        # A link can be replaced by whoever may write beside it, and nothing can be mounted on it.
        _log.warning("agent_directory_is_read_only", directory=str(directory), because=f"{link} is a link")
        place = msgspec.structs.replace(place, access="read-only")
    yield from _behind_links(place.files)
    if place.access == "read-only":
        yield Mount(directory, place.files)
        return
    placeholders.make(place.files)
    yield Mount(directory, place.files, is_writable=True)
    for name in _SET_UP:
        if (place.files / name).exists():
            yield Mount(directory / name, place.files / name)
    yield from _git(place)


def _git(place: Place) -> Iterator[Mount]:
    """Commits are an agent's to make; hooks and configuration are not."""
    inside, outside = place.directory / ".git", place.files / ".git"
    if outside.is_symlink() or not outside.exists():
        return
    if outside.is_file():  # a work tree's pointer
        yield Mount(inside, outside)
        return
    yield Mount(inside, outside, is_writable=True)  # a mount of its own cannot be moved away
    for name in _GIT_SET_UP:
        if (outside / name).exists() and not (outside / name).is_symlink():
            yield Mount(inside / name, outside / name)


def _linked_set_up(directory: Path) -> str:
    names = (*_SET_UP, ".git", *(f".git/{name}" for name in _GIT_SET_UP))
    return next((name for name in names if (directory / name).is_symlink()), "")


def _behind_links(directory: Path) -> Iterator[Mount]:
    """Set-up that is linked from elsewhere is there too, at the place it is linked from."""
    for name in _SET_UP:
        link = directory / name
        if link.is_symlink() and link.exists():
            target = Path(os.path.realpath(link))
            if not target.is_relative_to(directory):
                yield Mount(target, target)


def in_order(mounts: Sequence[Mount]) -> list[Mount]:
    """Parents before what is in them; of two at one path the later one counts."""
    by_target = {mount.target: mount for mount in mounts}
    return sorted(by_target.values(), key=lambda mount: len(mount.target.parts))
