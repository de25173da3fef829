"""What holds for all of Backline, read from Redis when somebody asks: every API process tells the same.

So it is counted once, where it happens, by the scripts that keep the usage and the queues; and a dashboard
takes the `max` of it over the processes, never the sum.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import structlog
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.registry import CachedRegistry, Registry
from shared.series import SeriesStore, Waiting
from shared.usage import UsageStore, Used

_FRESH_S = 1.0
_LOOK_S = 3.0
"""A scrape has an answer by then, whatever Redis does; Prometheus waits 10 s."""
_TOKENS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
}
_MS = 1000
_UP = "Whether Redis answered this process just now."

_log = structlog.get_logger(__name__)


class SystemMetrics(Collector):
    """The families of the newest `look`; without Redis nothing but that it is away."""

    def __init__(
        self, redis: Redis, registry: CachedRegistry, series: SeriesStore, usage: UsageStore
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._series = series
        self._usage = usage
        self._families: list[Metric] = [_redis_up(is_up=False)]
        self._looked_at = -_FRESH_S
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Read what holds now, at most once a second however many ask."""
        async with self._lock:
            if time.monotonic() - self._looked_at < _FRESH_S:
                return
            try:
                async with asyncio.timeout(_LOOK_S):
                    self._families = await self._look()
            except (RedisError, OSError, TimeoutError) as error:
                _log.warning("metrics_without_redis", error=str(error))
                self._families = [_redis_up(is_up=False)]
            self._looked_at = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """What the newest look has found."""
        return self._families

    async def _look(self) -> list[Metric]:
        known = await self._registry.look(fresh=True)
        places = _places(known)
        _, waiting = await self._series.waiting([queue for _, _, queue in places])
        used = await self._usage.by_agent()
        dead = await self._redis.zcard(keys.DEAD)
        named = [(agent, used.get(agent, Used())) for agent in sorted({*known.agents, *known.served})]
        return [
            _redis_up(is_up=True),
            *_queues([(agent, kind) for agent, kind, _ in places], waiting),
            *_workers(known),
            *_used(named),
            _gauge("backline_dead_letters", "Runs that were given up and are kept.", dead),
        ]


def without_redis() -> tuple[bytes, str]:
    """The answer that says no more than that Redis is away, and its content type."""
    registry = CollectorRegistry()
    Gauge("backline_redis_up", _UP, registry=registry).set(0)
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


def _redis_up(*, is_up: bool) -> Metric:
    return _gauge("backline_redis_up", _UP, int(is_up))


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value=value)


def _places(known: Registry) -> list[tuple[str, str, str]]:
    """Agent, kind and name of every queue; a project's is nobody's by name, for its id is a tenant's."""
    agents = sorted({*known.agents, *known.served})
    projects = sorted({project for worker in known.workers for project in worker.projects})
    of_projects = [keys.place("", project) for project in projects]
    return [
        *((agent, "interactive", keys.queue(agent)) for agent in agents),
        *((agent, "batch", keys.batch_queue(agent)) for agent in agents),
        *(("", "project", name) for p in of_projects for name in (keys.queue(p), keys.batch_queue(p))),
    ]


def _queues(labels: list[tuple[str, str]], waiting: list[Waiting]) -> list[Metric]:
    sums: dict[tuple[str, str], Waiting] = {}
    for label, queue in zip(labels, waiting, strict=True):
        before = sums.get(label, Waiting(0, 0, 0))
        sums[label] = Waiting(
            before.runs + queue.runs,
            max(before.oldest_ms, queue.oldest_ms),
            max(before.paused_ms, queue.paused_ms),
        )
    names = ["agent", "kind"]
    runs = GaugeMetricFamily(
        "backline_queue_waiting_runs", "Runs that wait: interactive, batch, or in a project.", labels=names
    )
    oldest = GaugeMetricFamily(
        "backline_queue_oldest_wait_seconds", "How long the oldest waits.", labels=names
    )
    paused = GaugeMetricFamily(
        "backline_queue_pause_seconds",
        "For how long nothing is started, because the model's service refuses; 0: no pause.",
        labels=names,
    )
    for label, queue in sums.items():
        runs.add_metric(label, queue.runs)
        oldest.add_metric(label, queue.oldest_ms / _MS)
        paused.add_metric(label, queue.paused_ms / _MS)
    return [runs, oldest, paused]


def _workers(known: Registry) -> list[Metric]:
    serving = GaugeMetricFamily(
        "backline_agent_workers", "Live workers that take an agent's runs.", labels=["agent"]
    )
    for agent in sorted({*known.agents, *known.served}):
        serving.add_metric([agent], sum(agent in worker.agents for worker in known.workers))
    workers = known.workers
    return [
        serving,
        _gauge("backline_workers", "Live workers.", len(workers)),
        _gauge("backline_slots", "Turns that all workers can run at a time.", sum(w.slots for w in workers)),
        _gauge("backline_busy_slots", "Turns that are under way.", sum(w.busy for w in workers)),
        _gauge(
            "backline_live_conversations",
            "Conversations in processes that wait for their next turn.",
            sum(w.live for w in workers),
        ),
    ]


def _used(named: list[tuple[str, Used]]) -> list[Metric]:
    runs = CounterMetricFamily("backline_runs", "Runs that have ended.", labels=["agent", "outcome"])
    tokens = CounterMetricFamily(
        "backline_tokens", "Tokens of runs that have ended.", labels=["agent", "type"]
    )
    usd = CounterMetricFamily("backline_cost_usd", "What runs have cost, as the CLI said.", labels=["agent"])
    for agent, used in named:
        for outcome in ("completed", "failed", "cancelled"):
            runs.add_metric([agent, outcome], getattr(used, outcome))
        for kind, field in _TOKENS.items():
            tokens.add_metric([agent, kind], getattr(used, field))
        usd.add_metric([agent], used.cost_usd)
    return [runs, tokens, usd]
