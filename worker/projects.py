"""The working copies on this worker's disk: made, found again after a restart, and removed when deleted."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
import structlog
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.agents import Agent
from shared.projects import CopyName, CopyStatus, ProjectState, ProjectStore, directory_of, folder_of_projects
from shared.settings import Settings
from worker.copying import Bounds, CopyRefusedError, copy_tree

_LOOK_S = 5.0
_UNKNOWN_S = 24 * 3600.0
"""A copy without a record stays this long: a Redis that lost its data should not take the files with it."""
_HALF_MADE_S = 3600.0
_HALF_MADE, _GOING = ".new-", ".gone-"

_log = structlog.get_logger(__name__)

Changed = Callable[[], Awaitable[None]]
Leave = Callable[[str], Awaitable[None]]


def working_copy(agent: Agent, data_dir: Path, tenant: str, project: str) -> Agent:
    """The agent as a run in `project` has it: in the working copy's directory; without one, as it is."""
    if not project:
        return agent
    return msgspec.structs.replace(agent, directory=directory_of(data_dir, tenant, project))


class WorkingCopies:
    """Holds the working copies below `data_dir`; `run` must be running.

    `changed` is awaited when other copies are held than before, `leave` with the id of a deleted project
    before its files go: it ends what still works in them.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, Agent],
        store: ProjectStore,
        *,
        changed: Changed,
        leave: Leave,
    ) -> None:
        self._data_dir = settings.data_dir
        self._root = folder_of_projects(settings.data_dir)
        self._bounds = Bounds(most_bytes=settings.max_project_bytes)
        self._agents = agents
        self._store = store
        self._changed = changed
        self._leave = leave
        self._held: frozenset[CopyName] = frozenset()
        self._missed: dict[CopyName, float] = {}
        self._looking = asyncio.Lock()
        self._wishes: asyncio.Queue[tuple[str, CopyName]] = asyncio.Queue()

    @property
    def held(self) -> tuple[str, ...]:
        """Ids of the projects whose runs this worker can take."""
        return tuple(sorted(copy.project for copy in self._held))

    def hear(self, said: str) -> bool:
        """Take a wish off the control channel; `False` when it is not about projects."""
        for wish in (keys.MAKE, keys.REMOVE):
            if said.startswith(wish):
                copy = CopyName.parse(said.removeprefix(wish))
                if copy is not None:
                    self._wishes.put_nowait((wish, copy))
                return True
        return False

    async def run(self) -> None:
        """Make, find and remove copies until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_around())
            while True:
                wish, copy = await self._wishes.get()
                group.create_task(self._grant(self._make(copy) if wish == keys.MAKE else self._remove(copy)))

    async def _look_around(self) -> None:
        while True:
            await asyncio.to_thread(self._sweep)
            await self._grant(self._look())
            await asyncio.sleep(_LOOK_S)

    async def _grant(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; what Redis or the disk does not let it do now is done at a later look around."""
        try:
            await work
        except (RedisError, OSError) as error:
            _log.warning("projects_delayed", error=str(error))

    async def _make(self, copy: CopyName) -> None:
        (status,) = await self._store.keep([copy])
        agent = self._agents.get(status.agent)
        if status.state != ProjectState.CREATING or agent is None:
            return
        if error := await self._copied(copy, agent):
            await self._store.settle(copy, error=error)
        else:
            await self._look()

    async def _look(self) -> None:
        """Compare what is on the disk with what the records say, one look at a time."""
        async with self._looking:
            found = await asyncio.to_thread(lambda: list(self._on_disk()))
            known = dict(zip(found, await self._store.keep(found), strict=True))
            await self._hold(frozenset(copy for copy in found if known[copy].agent in self._agents))
            for copy, status in known.items():  # once its runs are taken, and not before
                if status.state == ProjectState.CREATING and copy in self._held:
                    await self._store.settle(copy)
        for copy, status in known.items():
            if status.is_deleted or self._is_given_up(copy, status):
                await self._remove(copy)

    async def _hold(self, copies: frozenset[CopyName]) -> None:
        if copies != self._held:
            self._held = copies
            await self._changed()

    def _is_given_up(self, copy: CopyName, status: CopyStatus) -> bool:
        if not status.is_unknown:
            self._missed.pop(copy, None)
            return False
        return time.monotonic() - self._missed.setdefault(copy, time.monotonic()) > _UNKNOWN_S

    async def _copied(self, copy: CopyName, agent: Agent) -> str:
        """Make the files under a name of their own first; gives what went wrong, if something did."""
        target = self._root / str(copy)
        making = target.with_name(f"{_HALF_MADE}{os.getpid()}-{secrets.token_hex(4)}@{socket.gethostname()}")
        try:
            _make_private(self._data_dir, self._root, making.parent)
            await asyncio.to_thread(
                copy_tree, agent.directory, making, self._bounds, leave_out=self._data_dir
            )
            making.rename(target)
        except CopyRefusedError as error:
            return str(error)
        except OSError as error:
            _log.warning("project_not_copied", project=copy.project, error=str(error))
            return f"The worker could not copy the agent's directory: {error.strerror or 'an error'}."
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, making, ignore_errors=True))
        _log.info("project_made", project=copy.project, agent=agent.name)
        return ""

    async def _remove(self, copy: CopyName) -> None:
        """Take no more runs of a project, end what works in it, and remove its files."""
        await self._hold(self._held - {copy})
        await self._leave(copy.project)
        place = self._root / str(copy)
        going = place.with_name(f"{_GOING}{secrets.token_hex(8)}")
        try:
            place.rename(going)  # workers that share the folder would remove it together
        except FileNotFoundError:
            return
        await asyncio.to_thread(shutil.rmtree, going, ignore_errors=True)
        self._missed.pop(copy, None)
        _log.info("project_removed", project=copy.project)

    def _on_disk(self) -> Iterator[CopyName]:
        for place in self._root.glob("*/proj_*"):
            copy = CopyName.parse(f"{place.parent.name}/{place.name}")
            if copy is not None and place.is_dir():
                yield copy

    def _sweep(self) -> None:
        """Remove what workers that are no more have half made or half removed."""
        for place in self._root.glob("*/.*"):
            if place.name.startswith(_GOING) or _is_left_behind(place):
                shutil.rmtree(place, ignore_errors=True)


def _make_private(*places: Path) -> None:
    for place in places:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)


def _is_left_behind(place: Path) -> bool:
    """Whether a half-made copy is nobody's: its maker on this host has ended, or it is far too old."""
    pid, host = place.name.removeprefix(_HALF_MADE).partition("-")[0], place.name.rpartition("@")[2]
    if host == socket.gethostname() and pid.isdigit() and not psutil.pid_exists(int(pid)):
        return True
    try:
        return time.time() - place.stat().st_mtime > _HALF_MADE_S
    except OSError:
        return False
