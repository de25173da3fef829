"""Directories as an agent's process sees them: what it may write, and what no process may plant there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import structlog

from worker.sandbox.placeholders import SET_UP, Placeholders, fill

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
    if place.source is None:
        placeholders.make(place.files)
    else:  # a copy, which goes with its process
        with suppress(OSError):
            fill(place.files)
    yield Mount(directory, place.files, is_writable=True)
    for name in SET_UP:
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
    names = (*SET_UP, ".git", *(f".git/{name}" for name in _GIT_SET_UP))
    return next((name for name in names if (directory / name).is_symlink()), "")


def _behind_links(directory: Path) -> Iterator[Mount]:
    """Set-up that is linked from elsewhere is there too, at the place it is linked from."""
    for name in SET_UP:
        link = directory / name
        if link.is_symlink() and link.exists():
            target = Path(os.path.realpath(link))
            if not target.is_relative_to(directory):
                yield Mount(target, target)


def in_order(mounts: Sequence[Mount]) -> list[Mount]:
    """Parents before what is in them; of two at one path the later one counts."""
    by_target = {mount.target: mount for mount in mounts}
    return sorted(by_target.values(), key=lambda mount: len(mount.target.parts))
