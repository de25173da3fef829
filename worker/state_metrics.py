"""How a worker stands, looked at when somebody asks: the parts have these figures anyway."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from shared.event_writer import EventWriter
from worker.fallback.parts import FallbackParts
from worker.leases import LeaseWorker
from worker.pauses import Pauses
from worker.pool import Pool

_LOOK_S = 3.0


class StateMetrics(Collector):
    """Gauges and counts of a worker's parts; `look` asks Redis for the breakers, which all workers share."""

    def __init__(
        self,
        leases: LeaseWorker,
        pool: Pool,
        writer: EventWriter,
        pauses: Pauses,
        fallbacks: FallbackParts | None,
        agents: Iterable[str],
    ) -> None:
        self._leases = leases
        self._pool = pool
        self._writer = writer
        self._pauses = pauses
        self._fallbacks = fallbacks
        self._agents = tuple(agents)
        self._open: dict[str, bool] = {}

    async def look(self) -> None:
        """Find out how the breakers stand; while Redis is away they count as closed, as for the runs."""
        if self._fallbacks is not None:
            async with asyncio.timeout(_LOOK_S):
                self._open = await self._fallbacks.open_breakers(self._agents)

    def collect(self) -> Iterable[Metric]:
        """The figures as they are now."""
        yield _gauge(
            "backline_worker_slots", "Turns that this worker can run at a time.", self._leases.max_jobs
        )
        yield _gauge("backline_worker_busy_slots", "Turns under way here.", self._leases.busy)
        yield _gauge(
            "backline_events_pending", "Events that Redis has not acknowledged.", self._writer.pending
        )
        processes = GaugeMetricFamily(
            "backline_cli_processes",
            "CLI processes: busy, live (idle, with a conversation), spare (idle, without).",
            labels=["state"],
        )
        sizes = self._pool.sizes
        for state, count in sizes.counts.items():
            processes.add_metric([state], count)
        yield processes
        yield _gauge("backline_cli_memory_bytes", "Memory of all CLI processes.", sizes.bytes)
        yield _gauge("backline_cli_memory_budget_bytes", "What they may hold together.", sizes.budget)
        yield CounterMetricFamily(
            "backline_upstream_pauses",
            "Times that this worker met a service that refuses, and nothing was started for a while.",
            value=self._pauses.begun,
        )
        yield from self._of_fallbacks()

    def _of_fallbacks(self) -> Iterable[Metric]:
        tried = CounterMetricFamily(
            "backline_fallback_attempts",
            "Fallbacks: answered, failed, broke_off, or shut (not asked, since its breaker is open).",
            labels=["upstream", "outcome"],
        )
        for (label, outcome), count in (
            self._fallbacks.counts if self._fallbacks is not None else {}
        ).items():
            tried.add_metric([label, outcome], count)
        yield tried
        breakers = GaugeMetricFamily(
            "backline_breaker_open",
            "Whether a circuit breaker is open: of an agent (claude:NAME), or a fallback (fallback:NAME).",
            labels=["circuit"],
        )
        for circuit, is_open in self._open.items():
            breakers.add_metric([circuit], is_open)
        yield breakers


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=value)
