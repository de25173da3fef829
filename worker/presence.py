"""What a worker lets others know of it, and the queues it listens to."""

from __future__ import annotations

import asyncio
import socket
import zlib

import structlog
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.agent_reports import encode_reports
from shared.registry import AgentRecord, RegistryStore, WorkerRecord, describe
from shared.settings import Settings
from shared.subscriber import Subscriber
from worker.agent_reports import AgentReports
from worker.caching import Versions
from worker.directories import Directories
from worker.fallback.parts import FallbackParts
from worker.leases import LeaseWorker
from worker.listener import MetricsListener
from worker.metrics import WorkerMetrics
from worker.policies import Policies
from worker.pool import Pool

_log = structlog.get_logger(__name__)


class Presence:
    """A worker in the registry; `run` must be running."""

    def __init__(
        self,
        worker_id: str,
        cli_version: str,
        settings: Settings,
        registry: RegistryStore,
        leases: LeaseWorker,
        subscriber: Subscriber,
        pool: Pool,
        policies: Policies,
        directories: Directories,
        versions: Versions,
        fallbacks: FallbackParts | None,
        metrics: WorkerMetrics,
        listener: MetricsListener | None,
        reports: AgentReports,
    ) -> None:
        self._id = worker_id
        self._cli_version = cli_version
        self._settings = settings
        self._registry = registry
        self._leases = leases
        self._subscriber = subscriber
        self._pool = pool
        self._policies = policies
        self._directories = directories
        self._versions = versions
        self._fallbacks = fallbacks
        self._metrics = metrics
        self._listener = listener
        self._reports = reports
        self._told = b""
        """The reports that Redis has."""
        self._held: tuple[str, ...] = ()
        self._doorbells: frozenset[str] = frozenset()
        self._stand_ins: tuple[str, ...] = ()

    async def run(self) -> None:
        """Let the registry know as often as leases are renewed, until cancelled."""
        while True:
            try:
                await self._stand_in()
                await self._announce()
            except (RedisError, OSError) as error:
                _log.warning("announce_failed", error=str(error))
            await asyncio.sleep(keys.RENEW_S)

    async def hold(self, projects: tuple[str, ...]) -> None:
        """Take the runs in these projects, and only those; and say so at once. Raises `redis.RedisError`."""
        self._held = projects
        self._serve_more()
        await self._announce()

    async def withdraw(self) -> None:
        """Be no longer there. Raises `redis.RedisError`."""
        await self._registry.withdraw(self._id)

    async def _announce(self) -> None:
        usable = self._directories.usable
        described: list[AgentRecord] = [
            describe(agent) for agent in self._policies.described() if agent.name in usable
        ]
        reports = await self._encoded_reports()
        record = await self._record(reports)
        has_them = await self._registry.announce(record, described, b"" if reports == self._told else reports)
        self._told = reports if has_them else b""

    async def _encoded_reports(self) -> bytes:
        """What there is to tell, or nothing when it cannot be told: the worker serves all the same."""
        try:
            return encode_reports(await self._reports.all())
        except ValueError as error:
            _log.warning("agents_not_told_of", error=str(error))
            return b""

    async def _stand_in(self) -> None:
        """Take the runs of agents that have no worker, as far as fallbacks can answer for them."""
        if self._fallbacks is not None:
            stand_ins = self._fallbacks.stand_in.look(await self._registry.look())
            if stand_ins != self._stand_ins:
                _log.warning("standing_in", agents=stand_ins)
                self._stand_ins = stand_ins
                self._serve_more()

    def _serve_more(self) -> None:
        """Listen and claim for the projects that are held, and the agents that are stood in for."""
        places = (*(keys.place("", project) for project in self._held), *self._stand_ins)
        doorbells = frozenset(map(keys.doorbell, places))
        if new := doorbells - self._doorbells:
            self._subscriber.add(new)
        for old in self._doorbells - doorbells:
            self._subscriber.remove(old)
        self._doorbells = doorbells
        self._leases.serve(places)

    async def _record(self, reports: bytes) -> WorkerRecord:
        is_taking = self._leases.allow_pick_jobs
        return WorkerRecord(
            id=self._id,
            host=socket.gethostname(),
            agents=self._directories.usable if is_taking else (),
            unavailable=self._directories.faults,
            slots=self._settings.slots,
            busy=self._leases.busy,
            live=self._pool.live_count,
            cli_version=self._cli_version,
            projects=self._held if is_taking else (),
            stand_ins=self._stand_ins if is_taking else (),
            versions=await self._versions.all() if self._settings.cache != "off" else {},
            loop_p99_ms=self._metrics.loop_delay.p99_ms,
            metrics=self._listener.address if self._listener is not None else "",
            reports=f"{zlib.crc32(reports):08x}",
        )
