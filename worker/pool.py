"""The processes of a worker: spare ones spawned ahead, live ones that hold conversations, and their end.

A process is busy, live (idle, with a conversation), or spare (idle, without). Idle ones go, the least
recently used first, when there are too many, when memory is short, when they are old, or when the agent's
directory has changed under them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import structlog

from shared.agents import Agent
from shared.runs import LaunchOptions
from shared.settings import Settings
from worker.claude.live import LiveProcess
from worker.claude.process import CliNotStartedError
from worker.fingerprint import Fingerprints

_SWEEP_S = 2.0
_EXIT_GRACE_S = 2.0
_CALM_S = 0.3
_MOST_RESTLESS_S = 1.0
_DEMAND_WINDOW_S = 60.0
_SPAWN_TIME_S = 1.5
_MOST_SPARE = 8
_SPARE_IDLE_S = 900.0
_ASSUMED_BYTES = 200 * 1024 * 1024
"""Resident memory of a CLI after a turn (CLI 2.1, measured 185 to 208 MiB), until it has been looked at."""

_log = structlog.get_logger(__name__)

Spawn = Callable[["Owner"], Awaitable[LiveProcess]]
Forget = Callable[[str], Awaitable[None]]


class Owner(NamedTuple):
    """Processes are never shared across tenants, agents or projects, or started otherwise than asked for."""

    tenant: str
    agent: str
    options: LaunchOptions = LaunchOptions()
    project: str = ""

    @property
    def is_usual(self) -> bool:
        """Whether there should be a spare process even when none was asked for of late."""
        return self.tenant == "default" and self.options == LaunchOptions() and not self.project


class Sizes(NamedTuple):
    """How many processes there are, what they hold together, and what they may (bytes)."""

    counts: dict[str, int]
    bytes: int
    budget: int


class Pool:
    """Keeps processes for later. `run` must be running; `close` ends what is kept.

    `spawn` starts a spare process, `forget` is told the prefix of a live one that is no longer here,
    `settings_of` gives the settings that hold for an agent, `is_usable` whether it can be run now.
    """

    def __init__(
        self,
        settings: Settings,
        agents: dict[str, Agent],
        cli: Path,
        spawn: Spawn,
        forget: Forget,
        settings_of: Callable[[str], Settings] | None = None,
        is_usable: Callable[[str], bool] | None = None,
    ) -> None:
        self._settings = settings
        self._is_usable = is_usable or (lambda _: True)
        self._settings_of = settings_of or (lambda _: settings)
        self._agents = agents
        self._spawn = spawn
        self._forget = forget
        self._live: dict[str, LiveProcess] = {}
        self._spare: dict[Owner, deque[LiveProcess]] = {}
        self._owners: dict[LiveProcess, Owner] = {}
        self._fingerprints: dict[LiveProcess, tuple[str, Settings]] = {}
        self._now = Fingerprints(cli)
        self._claims: dict[Owner, deque[float]] = {}
        self._wake = asyncio.Event()
        self._budget = settings.memory_budget_bytes or psutil.virtual_memory().total // 2
        self._is_closed = False
        self._claimed_at = self._restless_since = -_MOST_RESTLESS_S
        self._endings = asyncio.TaskGroup()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def live_count(self) -> int:
        """Conversations kept live and idle."""
        return len(self._live)

    @property
    def sizes(self) -> Sizes:
        """All processes, by what they do."""
        live, spare = len(self._live), sum(map(len, self._spare.values()))
        busy = max(0, len(self._owners) - live - spare)
        counts = {"busy": busy, "live": live, "spare": spare}
        return Sizes(counts, sum(map(self._bytes_of, self._owners)), self._budget)

    def take_live(self, prefix: str) -> LiveProcess | None:
        """The process that holds exactly this history, which is then the caller's; or `None`."""
        live = self._live.pop(prefix, None)
        if live is None:
            return None
        if live.has_ended or self._is_stale(live):
            self._retire(live)
            return None
        return live

    def take_spare(self, owner: Owner) -> LiveProcess | None:
        """A process without a conversation, which is then the caller's; or `None`."""
        self._claimed_at = time.monotonic()
        self._claims.setdefault(owner, deque()).append(self._claimed_at)
        self._wake.set()
        spare = self._spare.get(owner, deque())
        while spare:
            process = spare.pop()
            if not process.has_ended and not self._is_stale(process):
                return process
            self._retire(process)
        return None

    def adopt(self, process: LiveProcess, owner: Owner) -> None:
        """Note whose a process is, and what its agent's directory was when it was spawned."""
        self._owners[process] = owner
        self._fingerprints[process] = self._state_of(process)

    def keep(self, process: LiveProcess) -> bool:
        """Keep a process whose turn is over for the next one; `False` when it is better ended."""
        if self._is_closed or self._settings.max_live == 0 or process.has_ended:
            return False
        if process.turns >= self._settings.max_turns_per_process:
            return False
        if process.launch.options.max_budget_usd is not None:  # the CLI counts from the process's start
            return False
        if self._bytes_of(process) > self._settings.max_process_bytes or self._is_stale(process):
            return False
        process.used_at = time.monotonic()
        process.rest()
        displaced = self._live.pop(process.prefix, None)
        self._live[process.prefix] = process
        if displaced is not None:
            self._retire(displaced)
        self._wake.set()
        return True

    async def discard(self, process: LiveProcess, *, is_clean: bool, sweep: bool) -> None:
        """End a process that is not kept; one that ended its turn well is let go by itself first.

        A caller that is cancelled meanwhile leaves the rest to the pool, and no process behind.
        """
        grace_s = _EXIT_GRACE_S if is_clean else 0.0
        await asyncio.shield(self._end_soon(process, grace_s=grace_s, sweep=sweep))

    async def run(self) -> None:
        """Evict and refill until cancelled."""
        async with self._endings:
            while True:
                self._wake.clear()
                await self._evict()
                if self._is_calm():
                    await self._refill()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SWEEP_S if self._is_calm() else _CALM_S):
                        await self._wake.wait()

    async def close(self) -> None:
        """End every idle process."""
        self._is_closed = True
        idle = [*self._live.values(), *(process for spare in self._spare.values() for process in spare)]
        self._live.clear()
        self._spare.clear()
        await asyncio.gather(*(self._end(process) for process in idle), *self._ending)

    async def drop(self, matches: Callable[[LiveProcess], bool]) -> int:
        """End the live idle processes that match; gives how many."""
        found = [process for process in self._live.values() if matches(process)]
        for process in found:
            del self._live[process.prefix]
        await asyncio.gather(*map(self._retire, found))
        return len(found)

    async def leave(self, project: str) -> None:
        """End the idle processes of a project, and keep none ready for it."""
        for owner in [owner for owner in self._claims if owner.project == project]:
            del self._claims[owner]  # none is wanted any more: the next round ends the spare ones
        of_project = {process for process, owner in self._owners.items() if owner.project == project}
        spare = [
            (kept, process) for kept in self._spare.values() for process in kept if process in of_project
        ]
        for kept, process in spare:
            kept.remove(process)
        await asyncio.gather(*(self._end(process) for _, process in spare))
        await self.drop(of_project.__contains__)

    async def _evict(self) -> None:
        now = time.monotonic()
        by_age = sorted(self._live.values(), key=lambda process: process.used_at)
        going = [
            process
            for process in by_age
            if process.has_ended
            or now - process.used_at > self._settings.session_idle_s
            or self._is_stale(process)
        ]
        staying = [process for process in by_age if process not in going]
        for tenant in {self._owners[process].tenant for process in staying}:
            of_tenant = [process for process in staying if self._owners[process].tenant == tenant]
            going += of_tenant[: max(0, len(of_tenant) - self._settings.max_live_per_tenant)]
        staying = [process for process in staying if process not in going]
        over = max(0, len(staying) - self._settings.max_live)
        going += staying[:over]
        staying = staying[over:]
        excess = sum(self._bytes_of(process) for process in self._owners) - self._budget
        while excess > 0 and staying:
            going.append(staying.pop(0))
            excess -= self._bytes_of(going[-1])
        for process in going:
            del self._live[process.prefix]
        await asyncio.gather(*map(self._retire, going))

    async def _refill(self) -> None:
        """End spare processes that are stale or too many, and spawn one where one is missing."""
        for owner in [
            owner for owner in self._claims if not self._recent(owner) and not self._spare.get(owner)
        ]:
            del self._claims[owner]
            self._spare.pop(owner, None)
        known = [Owner("default", agent) for agent in self._agents]
        for owner in dict.fromkeys([*known, *self._claims, *self._spare]):
            spare = self._spare.setdefault(owner, deque())
            stale = [process for process in spare if process.has_ended or self._is_stale(process)]
            for process in stale:
                spare.remove(process)
                self._retire(process)
            wanted = self._wanted(owner)
            while len(spare) > wanted:
                await self._retire(spare.popleft())
            has_memory = sum(map(self._bytes_of, self._owners)) + _ASSUMED_BYTES <= self._budget
            if len(spare) < wanted and has_memory and not self._is_closed:
                await self._spawn_spare(owner, spare)

    async def _spawn_spare(self, owner: Owner, spare: deque[LiveProcess]) -> None:
        try:
            process = await self._spawn(owner)
        except (CliNotStartedError, OSError) as error:
            _log.warning("spare_not_started", agent=owner.agent, error=str(error))
            return
        if self._is_closed:
            await self._end(process)
            return
        spare.append(process)
        if len(spare) < self._wanted(owner):
            self._wake.set()

    def _is_calm(self) -> bool:
        """Whether a spawn would not take the CPU from a turn that has just begun, or has waited enough."""
        now = time.monotonic()
        if now - self._claimed_at >= _CALM_S:
            self._restless_since = now
        return now - self._claimed_at >= _CALM_S or now - self._restless_since >= _MOST_RESTLESS_S

    def _wanted(self, owner: Owner) -> int:
        """How many spare processes there should be: what recent demand needs while one is spawned."""
        if not owner.project and not self._is_usable(owner.agent):
            return 0
        if (warm := self._settings_of(owner.agent).warm) is not None:
            return warm if owner.is_usual or self._recent(owner) else 0
        recent = self._recent(owner)
        least = 1 if owner.is_usual or recent else 0
        return min(_MOST_SPARE, max(least, math.ceil(recent * _SPAWN_TIME_S / _DEMAND_WINDOW_S)))

    def _recent(self, owner: Owner) -> int:
        claims = self._claims.get(owner)
        if claims is None:
            return 0
        while claims and time.monotonic() - claims[0] > _DEMAND_WINDOW_S:
            claims.popleft()
        return len(claims)

    def _is_stale(self, process: LiveProcess) -> bool:
        if process not in self._owners:
            return True
        return self._fingerprints[process] != self._state_of(process)

    def _state_of(self, process: LiveProcess) -> tuple[str, Settings]:
        """What a process was started by; it is stale when this has changed."""
        return self._now.of(process.launch.cwd), self._settings_of(self._owners[process].agent)

    def _bytes_of(self, process: LiveProcess) -> int:
        return process.process.resident_bytes or _ASSUMED_BYTES

    def _retire(self, process: LiveProcess) -> asyncio.Task[None]:
        return self._end_soon(process, grace_s=0.0, sweep=True)

    def _end_soon(self, process: LiveProcess, *, grace_s: float, sweep: bool) -> asyncio.Task[None]:
        task = self._endings.create_task(self._end(process, grace_s=grace_s, sweep=sweep))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _end(self, process: LiveProcess, *, grace_s: float = 0.0, sweep: bool = True) -> None:
        self._owners.pop(process, None)
        self._fingerprints.pop(process, None)
        if process.prefix:
            await self._forget(process.prefix)
        await process.end(grace_s=grace_s, sweep=sweep)
