"""The worker process: its parts put together, and their common end."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.answer_cache import AnswerCache
from shared.event_writer import EventWriter
from shared.keys import KeyStore
from shared.pauses import PauseStore
from shared.projects import ProjectStore
from shared.redis import connect
from shared.registry import RegistryStore
from shared.replicas import replicas_of
from shared.run_store import RunStore
from shared.settings import Settings
from shared.subscriber import Subscriber
from shared.tasks import end_tasks
from shared.telemetry import configure_logs
from shared.tracing import tracing_for
from worker.agent_reports import AgentReports
from worker.caching import CachingTurns, Versions
from worker.claude.home import Homes
from worker.claude.launch import CREDENTIALS, Launcher
from worker.claude.live import LiveProcess
from worker.directories import Directories
from worker.egress.egress import Egress
from worker.execute import Executor
from worker.fallback.parts import FallbackParts
from worker.fallback.turns import Turns as AnyTurns
from worker.gate.gate import Gate
from worker.gate.upstream import find_upstream, without_credentials
from worker.leases import LeaseWorker
from worker.listener import ListenerError, MetricsListener
from worker.metrics import WorkerMetrics
from worker.pauses import Pauses, upstream_of
from worker.pool import Owner, Pool
from worker.presence import Presence
from worker.processes import Processes
from worker.projects import WorkingCopies, working_copy
from worker.revisions.checkouts import Checkouts
from worker.sessions import Sessions
from worker.spans import Spans, TracedTurns
from worker.start import Equipment, WorkerStartError, equip, meet_redis
from worker.state_metrics import StateMetrics
from worker.turns import Turns

_STOPPING_S = 5.0

_log = structlog.get_logger(__name__)


def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Run a worker until SIGTERM or SIGINT. `environ` is what the CLI's environment is picked from.

    Raises `WorkerStartError`, or `AgentError` for an agent that cannot be served.
    """
    configure_logs(settings, "worker")
    uvloop.run(_run(equip(settings, environ)))


async def _run(equipment: Equipment) -> None:
    # Made here, because ARQ's worker keeps the loop it finds when it is made.
    try:
        worker = _Worker(equipment)
    except ListenerError as error:
        raise WorkerStartError(str(error)) from error
    await worker.run()


class _Worker:
    def __init__(self, equipment: Equipment) -> None:
        self._settings = settings = equipment.settings
        self._box = box = equipment.box
        self._agents = agents = equipment.agents
        cli, cli_version = equipment.cli, equipment.cli_version
        environ, policies = equipment.environ, equipment.policies
        self._id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        by_name = {agent.name: agent for agent in agents}
        self._metrics = WorkerMetrics(by_name)
        self._tracing = tracing_for("worker", environ)
        self._redis = connect(
            settings.redis_url or "",
            on_error=self._metrics.redis_failed,
            replicas=replicas_of(settings, self._metrics.replicas_missed),
        )
        store = RunStore(self._redis, retention_s=settings.retention_s)
        self._writer = EventWriter(self._redis)
        own_login = Path(
            environ.get("CLAUDE_CONFIG_DIR") or Path(environ.get("HOME", "~")).expanduser() / ".claude"
        )
        login = None if any(environ.get(name) for name in CREDENTIALS) else own_login
        sessions = Sessions(self._redis, settings, self._id)
        directories = Directories(by_name)
        self._pool = Pool(
            settings, by_name, cli, self._spare, sessions.forget, policies.of, directories.is_usable
        )
        upstream = find_upstream(settings, environ)
        has_door = box is not None
        self._gate = Gate(upstream, settings, environ, has_door=has_door) if upstream is not None else None
        self._egress = Egress(policies.of)
        seen = without_credentials(environ) if upstream is not None else environ
        homes = Homes(settings.data_dir, login)
        homes.sweep()
        self._processes = Processes(
            Launcher(cli, settings, seen, policies.of),
            homes,
            self._pool,
            sessions,
            box,
            self._gate,
            policies.of,
            self._egress,
        )
        self._by_name = by_name
        reports = AgentReports(
            by_name, policies, seen, cli, is_boxed=box is not None, has_gate=upstream is not None
        )
        turns: AnyTurns = Turns(
            settings,
            by_name,
            self._processes,
            self._pool,
            sessions,
            Checkouts(settings, policies.of, box.reading if box is not None else None),
            self._metrics.found,
            reports.hear,
        )
        if self._tracing is not None:
            turns = TracedTurns(turns, self._tracing)
        self._fallbacks = FallbackParts(self._redis, turns, settings) if settings.fallbacks else None
        self._versions = Versions(by_name, cli_version, lambda name: policies.of(name).permission_mode)
        upstream_id = upstream_of(environ)
        pauses = Pauses(PauseStore(self._redis), upstream_id)
        self._executor = Executor(
            self._redis,
            store,
            self._writer,
            CachingTurns(
                turns if self._fallbacks is None else self._fallbacks.turns,
                AnswerCache(self._redis, settings),
                self._versions,
                settings,
            ),
            settings,
            self._id,
            pauses,
            policies.of,
            self._metrics,
            Spans(self._tracing),
        )
        self._leases = LeaseWorker(
            self._redis,
            store,
            self._id,
            tuple(by_name),
            settings.slots,
            self._executor.execute,
            self._executor.give_up,
            settings.batch_slots,
            upstream_id,
            directories,
        )
        state = StateMetrics(self._leases, self._pool, self._writer, pauses, self._fallbacks, by_name)
        self._metrics.registry.register(state)
        self._listener = (
            MetricsListener(self._metrics, state.look, KeyStore(self._redis), settings)
            if settings.metrics_port is not None
            else None
        )
        self._stop = asyncio.Event()
        self._drops: asyncio.Queue[str] = asyncio.Queue()
        self._homes = homes
        self._copies = WorkingCopies(
            settings, by_name, ProjectStore(self._redis), changed=self._hold, leave=self._leave
        )
        self._subscriber = Subscriber(self._redis, self._on_message, lambda _: self._leases.ring())
        self._presence = Presence(
            self._id,
            cli_version,
            settings,
            RegistryStore(self._redis),
            self._leases,
            self._subscriber,
            self._pool,
            policies,
            directories,
            self._versions,
            self._fallbacks,
            self._metrics,
            self._listener,
            reports,
        )

    async def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        await meet_redis(self._redis, self._settings.redis_url or "", self._stop)
        try:
            await self._work_until(self._stop)
        finally:
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(_STOPPING_S):
                    await self._presence.withdraw()
            await self._redis.aclose()
            if self._tracing is not None:
                await self._tracing.close()

    async def _work_until(self, stop: asyncio.Event) -> None:
        self._subscriber.add(
            [
                keys.control(self._id),
                keys.doorbell(f"@{self._id}"),
                *(keys.doorbell(agent.name) for agent in self._agents),
            ]
        )
        async with asyncio.TaskGroup() as group:
            parts = [
                self._writer.run(),
                self._subscriber.run(),
                self._presence.run(),
                self._leases.renew(self._executor.cancel),
                self._leases.fence(self._executor.is_ending),
                self._leases.work(),
                self._pool.run(),
                self._drop(),
                self._copies.run(),
                self._metrics.loop_delay.run(),
                *([self._gate.run()] if self._gate is not None else []),
                *([self._listener.run()] if self._listener is not None else []),
            ]
            tasks = [group.create_task(part) for part in parts]
            _log.info("worker_ready", worker=self._id, agents=[a.name for a in self._agents])
            await stop.wait()
            _log.info("worker_draining", busy=self._leases.busy)
            await self._leases.drain(self._settings.drain_timeout_s)
            await self._pool.close()
            await end_tasks(tasks)
        if self._fallbacks is not None:
            await self._fallbacks.services.aclose()
        self._egress.close()
        if self._box is not None:
            self._box.close()

    async def _spare(self, owner: Owner) -> LiveProcess:
        agent = working_copy(self._by_name[owner.agent], self._settings.data_dir, owner.tenant, owner.project)
        return await self._processes.spare(owner, agent)

    async def _hold(self) -> None:
        await self._presence.hold(self._copies.held)

    async def _leave(self, project: str) -> None:
        await self._executor.leave(project)
        await self._pool.leave(project)
        await asyncio.to_thread(self._homes.forget, project)

    def _on_message(self, channel: bytes, data: bytes) -> None:
        if channel == keys.control(self._id).encode():
            wish = data.decode()
            if self._copies.hear(wish):
                return
            if wish == keys.DRAIN:
                self._stop.set()
            elif wish.startswith(keys.DROP):
                self._drops.put_nowait(wish.removeprefix(keys.DROP))
            else:
                self._executor.cancel(wish)
        else:
            self._leases.ring()

    async def _drop(self) -> None:
        """End the live processes of sessions that were deleted."""
        while True:
            session_id = await self._drops.get()
            await self._pool.drop(lambda process, gone=session_id: process.session_id == gone)  # type: ignore[misc]
