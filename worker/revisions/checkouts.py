"""Files of revisions on this worker's disk, each laid out once and shared by all that run it.

They are at `<agent>/<tree>` below a folder of their own: a tree's name is a hash of all that is in it. Who
uses one holds a lock on it, across workers; the least recently used one that nobody holds goes first.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path

import msgspec
import structlog

from shared.agents import Agent
from shared.settings import RevisionsAllowed, Settings
from worker.copying import Bounds
from worker.revisions.git import Commit, Entry, Repository, RevisionError, Wrap

_MOST_KEPT = 16
_MOST_S = 60.0
_HALF_MADE_S = 3600.0
_TRIES = 3
_HALF_MADE, _GOING = ".new-", ".gone-"

_log = structlog.get_logger(__name__)


class Checkouts:
    """Lays out revisions below `data_dir`. `wrap` puts git into a sandbox, where there is one.

    `settings_of` gives the settings that hold for an agent.
    """

    def __init__(
        self, settings: Settings, settings_of: Callable[[str], Settings], wrap: Wrap | None = None
    ) -> None:
        self._root = settings.data_dir.absolute() / "versions"
        self._bounds = Bounds(most_bytes=settings.max_project_bytes, most_s=_MOST_S)
        self._settings_of = settings_of
        self._wrap = wrap
        self._making = asyncio.Lock()

    @asynccontextmanager
    async def at(self, agent: Agent, revision: str, *, commit: str = "") -> AsyncIterator[Agent]:
        """The agent as it was at `revision`, its files held until this is left; as it is without one.

        With `commit` it is that one, which `revision` stood for before. Raises `RevisionError` when there is
        none, or requests may not name it.
        """
        if not revision:
            yield agent
            return
        allowed = self._settings_of(agent.name).agent_versions
        repository, found = await asyncio.to_thread(self._find, agent, revision, allowed, commit)
        place = self._root / agent.name / found.tree
        release = await self._hold(repository, found, place)
        try:
            yield msgspec.structs.replace(agent, directory=place, revision=found.commit)
        finally:
            release()

    def _find(
        self, agent: Agent, revision: str, allowed: RevisionsAllowed, commit: str
    ) -> tuple[Repository, Commit]:
        if allowed == "off":
            raise RevisionError("This agent runs as it is: requests may name no revision of it.")
        repository = Repository(agent.directory, self._wrap)
        if commit and allowed == "any":
            return repository, repository.commit(commit, tags_only=False)
        found = repository.commit(revision, tags_only=allowed == "tags")
        if commit not in {"", found.commit}:  # a commit that no tag names is none that requests may name
            raise RevisionError(f"{revision!r} was moved while the run was under way, and its worker lost.")
        return repository, found

    async def _hold(self, repository: Repository, found: Commit, place: Path) -> Callable[[], None]:
        try:
            for _ in range(_TRIES):  # another worker may remove it between its making and our hold
                with suppress(FileNotFoundError, BlockingIOError):
                    return hold(place)
                async with self._making:
                    await asyncio.to_thread(self._make, repository, found, place)
        except OSError as error:
            _log.warning("revision_not_laid_out", tree=found.tree, error=str(error))
        raise RevisionError("The worker could not lay out the revision's files.")

    def _make(self, repository: Repository, found: Commit, place: Path) -> None:
        if place.is_dir():
            return
        for folder in (self._root.parent, self._root, place.parent):
            folder.mkdir(exist_ok=True, parents=True, mode=0o700)
        making = place.with_name(f"{_HALF_MADE}{secrets.token_hex(8)}")
        try:
            making.mkdir(mode=0o700)
            lay_out(repository, repository.entries(found.tree, self._bounds), making, self._bounds)
            making.rename(place)
        except OSError:
            if not place.is_dir():  # else another worker was faster
                raise
        finally:
            _remove(making)
        self._trim(place)

    def _trim(self, newest: Path) -> None:
        """Remove what is too many, and what killed workers have left half made or half removed."""
        for place in self._root.glob("*/.*"):
            if _age_s(place) > _HALF_MADE_S:
                _remove(place)
        kept = sorted(self._root.glob("*/[0-9a-f]*"), key=_age_s, reverse=True)
        too_many = len(kept) - _MOST_KEPT
        for place in kept:
            if too_many > 0 and place != newest and _removed_unless_held(place):
                too_many -= 1


def hold(place: Path) -> Callable[[], None]:
    """Keep a checkout from being removed until what is given back is called.

    Raises `FileNotFoundError` when it is not there (any more), `BlockingIOError` while it is being removed.
    """
    with ExitStack() as opened:
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if place.stat().st_ino != os.fstat(lock).st_ino:
            raise FileNotFoundError(place)
        os.utime(place)
        return opened.pop_all().close


def lay_out(repository: Repository, entries: Sequence[Entry], target: Path, bounds: Bounds) -> None:
    """Write a revision's files to the directory `target`, for reading only.

    Links come last, so that none is written through, and those that lead out of `target` are left out.
    Raises `RevisionError` or `OSError`.
    """
    links: list[Path] = []
    in_order = sorted(entries, key=lambda each: each.kind == "link")
    with closing(repository.contents(in_order, bounds)) as files:
        for entry, content in files:
            place = target / entry.path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if entry.kind == "link":
                links += _link(place, b"".join(content))
            else:
                _write(place, content, 0o500 if entry.kind == "program" else 0o400)
    _remove_leading_out(links, target)
    for folder in _folders(target):
        folder.chmod(0o500)


def _link(place: Path, leads_to: bytes) -> list[Path]:
    if not leads_to or leads_to.startswith(b"/") or b"\0" in leads_to:
        return []
    place.symlink_to(os.fsdecode(leads_to))
    return [place]


def _write(place: Path, content: Iterator[bytes], mode: int) -> None:
    with place.open("xb") as file:
        for piece in content:
            file.write(piece)
        os.fchmod(file.fileno(), mode)


def _remove_leading_out(links: list[Path], target: Path) -> None:
    inside = Path(os.path.realpath(target))
    while leading_out := [link for link in links if not Path(os.path.realpath(link)).is_relative_to(inside)]:
        for link in leading_out:  # which may be on the way of another
            link.unlink()
            links.remove(link)


def _removed_unless_held(place: Path) -> bool:
    with suppress(OSError):
        lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            going = place.with_name(f"{_GOING}{secrets.token_hex(8)}")
            place.rename(going)
            _remove(going)
        finally:
            os.close(lock)
        return True
    return False


def _remove(place: Path) -> None:
    for folder in _folders(place):
        with suppress(OSError):
            folder.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)


def _folders(place: Path) -> Iterator[Path]:
    """A directory and those below it, the upper ones first; links are none."""
    for folder, _, _ in os.walk(place):
        yield Path(folder)


def _age_s(place: Path) -> float:
    try:
        return time.time() - place.stat().st_mtime
    except OSError:
        return 0.0
