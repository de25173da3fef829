"""Who serves what, right now: workers announce themselves, everybody else looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import structlog
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.agent_reports import Reports, decode_reports
from shared.agents import Agent, claude_model_of, mcp_servers_of, skills_of, subagents_of
from shared.scripts import Scripts

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class AgentRecord(msgspec.Struct, frozen=True):
    """An agent as clients may know it; `created` is in seconds since the epoch."""

    name: str
    description: str
    created: int
    skills: tuple[str, ...] = ()
    subagents: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    model: str = ""
    """The Claude model that its own settings choose; empty when they leave it to the CLI."""


class WorkerRecord(msgspec.Struct, frozen=True):
    """A live worker: its agents in the operator's order, its slots and how many are busy.

    `live` is how many conversations it keeps in idle processes, `projects` the ids of the projects whose
    files it has, `stand_ins` the agents without a worker for which its fallbacks answer,
    `versions` hashes of what its agents are (`worker.versions`), `loop_p99_ms` how late its event loop was.
    """

    id: str
    host: str
    agents: tuple[str, ...]
    slots: int
    busy: int
    cli_version: str
    live: int = 0
    projects: tuple[str, ...] = ()
    stand_ins: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    loop_p99_ms: float = 0.0
    metrics: str = ""
    """Where it shows its metrics, as `host:port`; empty when it does not."""
    reports: str = ""
    """A word that changes with what it tells of its agents (`RegistryStore.reports`)."""
    unavailable: dict[str, str] = {}
    """Its agents that cannot be run right now, and why, in words for clients."""


class Registry(msgspec.Struct, frozen=True):
    """One look at all live workers and all agents ever announced (and not forgotten)."""

    workers: tuple[WorkerRecord, ...] = ()
    agents: dict[str, AgentRecord] = {}

    @property
    def served(self) -> tuple[str, ...]:
        """Names of agents that at least one live worker serves, in the first worker's order."""
        return tuple(dict.fromkeys(name for worker in self.workers for name in worker.agents))

    def serves(self, agent: str, project: str) -> bool:
        """Whether a live worker takes runs of an agent, and has the files of a project if one is named."""
        return any(
            agent in worker.agents and (not project or project in worker.projects) for worker in self.workers
        )

    def version(self, agent: str) -> str:
        """What an agent is now; empty unless all its workers have the same."""
        versions = {worker.versions.get(agent, "") for worker in self.workers if agent in worker.agents}
        return versions.pop() if len(versions) == 1 else ""

    @property
    def unavailable(self) -> dict[str, str]:
        """Agents that a live worker should serve and none does, and why."""
        served = self.served
        return {
            name: why
            for worker in self.workers
            for name, why in worker.unavailable.items()
            if name not in served
        }

    def why_not(self, agent: str) -> str:
        """Why the workers that should serve an agent do not; empty when none says so, or one does."""
        return self.unavailable.get(agent, "")

    def stands_in(self, agent: str) -> bool:
        """Whether a live worker's fallbacks answer for an agent that has no worker of its own."""
        return any(agent in worker.stand_ins for worker in self.workers)


class RegistryStore:
    """The registry in Redis. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def announce(
        self, worker: WorkerRecord, agents: Sequence[AgentRecord], reports: bytes = b""
    ) -> bool:
        """Say that a worker lives; it lapses after the lease unless said again.

        `reports` (`encode_reports`) may be left out when they are as they were told before. Gives whether
        Redis has them.
        """
        pairs = [value for a in agents for value in (a.name, msgspec.msgpack.encode(a))]
        has_reports = await self._scripts(
            "announce",
            [keys.worker(worker.id), keys.WORKERS, keys.AGENTS, keys.agent_reports(worker.id)],
            [worker.id, msgspec.msgpack.encode(worker), keys.LEASE_MS, keys.AGENTS_TTL_MS, reports, *pairs],
        )
        return bool(has_reports)

    async def withdraw(self, worker_id: str) -> None:
        """Say that a worker has left."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.worker(worker_id), keys.agent_reports(worker_id))
            pipe.zrem(keys.WORKERS, worker_id)
            await pipe.execute()

    async def reports(self, workers: Sequence[WorkerRecord]) -> Reports:
        """What workers tell of their agents, as far as it can be read."""
        if not workers:
            return {}
        found = await self._redis.mget([keys.agent_reports(worker.id) for worker in workers])
        return {
            worker.id: told
            for worker, data in zip(workers, found, strict=True)
            if data is not None
            for told in _readable(decode_reports, [data])
        }

    async def drain(self, worker_id: str) -> bool:
        """Ask a worker to end after the runs it has; `False` when no such worker listens."""
        return bool(await self._redis.publish(keys.control(worker_id), keys.DRAIN))

    async def look(self) -> Registry:
        """Read the registry as it is now."""
        workers, agents = await self._scripts("registry", [keys.WORKERS, keys.AGENTS], [keys.worker("")])
        records = _readable(_agents.decode, agents[1::2])
        return Registry(
            workers=tuple(sorted(_readable(_worker.decode, workers), key=lambda w: w.id)),
            agents={record.name: record for record in records},
        )


class CachedRegistry:
    """A registry that is read at most once a second, for the request path."""

    def __init__(self, store: RegistryStore, *, max_age_s: float = 1.0) -> None:
        self._store = store
        self._max_age_s = max_age_s
        self._read_at = -max_age_s
        self._registry = Registry()

    async def look(self, *, fresh: bool = False) -> Registry:
        """The registry, at most `max_age_s` old; `fresh` reads it now."""
        now = time.monotonic()
        if fresh or now - self._read_at >= self._max_age_s:
            self._registry = await self._store.look()
            self._read_at = now
        return self._registry


def _readable(decode: Callable[[bytes], _T], records: Sequence[bytes]) -> list[_T]:
    """Decode records; one that another version wrote, or nobody of ours, is passed over."""
    decoded: list[_T] = []
    for record in records:
        try:
            decoded.append(decode(record))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            _log.warning("registry_record_unreadable")
    return decoded


def describe(agent: Agent) -> AgentRecord:
    """What clients may know of an agent."""
    return AgentRecord(
        name=agent.name,
        description=agent.description,
        created=int(agent.directory.stat().st_mtime),
        skills=skills_of(agent.directory),
        subagents=subagents_of(agent.directory),
        mcp_servers=mcp_servers_of(agent.directory),
        model=claude_model_of(agent.directory),
    )


_worker = msgspec.msgpack.Decoder(WorkerRecord)
_agents = msgspec.msgpack.Decoder(AgentRecord)
