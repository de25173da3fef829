"""Turns whose answers are kept for the same question, when they may be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.agents import Agent
from shared.answer_cache import AnswerCache, Recording, entry_name
from shared.run_events import RunCompleted, RunEvent, TerminalEvent
from shared.runs import CacheTerms, RunRequest
from shared.settings import Settings
from worker.fallback.turns import Turns
from worker.recovery import Lost
from worker.turn import Reporter, Stop
from worker.versions import AgentVersions

_log = structlog.get_logger(__name__)


class Versions:
    """The versions of this worker's agents; `mode_of` gives an agent's permission mode."""

    def __init__(self, agents: Mapping[str, Agent], also: str, mode_of: Callable[[str], str]) -> None:
        self._mode_of = mode_of
        self._agents = agents
        self._versions = AgentVersions(also)
        self._lock = asyncio.Lock()

    async def now(self, name: str) -> str:
        """An agent's version; empty when it has none, or is not this worker's."""
        agent = self._agents.get(name)
        if agent is None:
            return ""
        async with self._lock:
            version = await asyncio.to_thread(self._versions.of, agent.directory)
        return f"{version}-{self._mode_of(name)}" if version else ""

    async def all(self) -> dict[str, str]:
        """The versions of all agents that have one."""
        found = {name: await self.now(name) for name in self._agents}
        return {name: version for name, version in found.items() if version}


class CachingTurns:
    """Turns before which a recorder stands, for runs that ask to be kept."""

    def __init__(self, turns: Turns, cache: AnswerCache, versions: Versions, settings: Settings) -> None:
        self._turns = turns
        self._cache = cache
        self._versions = versions
        self._harmless = settings.cache_tools
        self._is_on = settings.cache != "off"

    async def run(self, request: RunRequest, reporter: Reporter, stop: Stop) -> None:
        """Run `request`; keep its answer if the agent was all the time what the request takes it for."""
        terms = request.cache
        if terms is None or not self._is_on or await self._name_now(request) != terms.name:
            await self._turns.run(request, reporter, stop)
            return
        await self._turns.run(request, _Recorder(self, request, terms, reporter, self._harmless), stop)

    async def recover(self, request: RunRequest, lost: Lost, reporter: Reporter, stop: Stop) -> None:
        """Go on with a turn of which another worker had said a part: it is not kept."""
        await self._turns.recover(request, lost, reporter, stop)

    async def keep(self, request: RunRequest, terms: CacheTerms, entry: list[RunEvent]) -> None:
        """Store an answer; a failure to do so is no harm."""
        if await self._name_now(request) != terms.name:
            return
        try:
            await self._cache.put(request.tenant, terms.name, entry, ttl_s=terms.ttl_s)
        except (RedisError, OSError) as error:
            _log.warning("answer_not_cached", error=str(error))

    async def _name_now(self, request: RunRequest) -> str:
        """Computed here and not taken from the request: who can write to Redis cannot name another entry."""
        return entry_name(request, await self._versions.now(request.agent))


class _Recorder:
    """A reporter that listens."""

    def __init__(
        self,
        turns: CachingTurns,
        request: RunRequest,
        terms: CacheTerms,
        reporter: Reporter,
        harmless: tuple[str, ...],
    ) -> None:
        self._turns = turns
        self._request = request
        self._terms = terms
        self._reporter = reporter
        self._recording = Recording(harmless)

    def say(self, event: RunEvent) -> None:
        self._recording.add(event)
        self._reporter.say(event)

    @property
    def is_full(self) -> bool:
        return self._reporter.is_full

    async def room(self) -> None:
        await self._reporter.room()

    async def conclude(self, event: TerminalEvent) -> None:
        if isinstance(event, RunCompleted):
            event = msgspec.structs.replace(event, cache="miss")
            entry = self._recording.entry(event)
            if entry is not None:
                await self._turns.keep(self._request, self._terms, entry)
        await self._reporter.conclude(event)
