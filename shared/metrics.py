"""What a process counts, in a registry of its own, as Prometheus reads it.

A label is what the operator or the code has named: an agent, an upstream, a route, an outcome. Never a
tenant, a key, a run, or a word of a client's, so that no client can make series or read of another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from shared.loop_delay import LoopDelay

SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560)
"""Bounds (s) for what takes as long as a run waits or goes on."""
FIRST_TOKEN_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 10, 15, 20, 40, 80, 160, 640)
_LOOP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OTHER: Final = "other"
"""The label of what nobody has named."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each, which nobody reads


class ProcessMetrics:
    """What every process of Backline tells of itself; `registry` takes what one kind of them adds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Gauge(
            "backline_build_info", "1; the label is the version.", ["version"], registry=self.registry
        ).labels(version("backline")).set(1)
        self._redis_errors = Counter(
            "backline_redis_errors",
            "Tries to reach Redis that failed, by the name of the error; most are tried again.",
            ["error"],
            registry=self.registry,
        )
        self._replicas_missed = Counter(
            "backline_redis_replicas_missed",
            "Lasting writes that too few replicas of Redis had in time (`redis_replicas`).",
            registry=self.registry,
        )
        delays = Histogram(
            "backline_event_loop_delay_seconds",
            "How much later than asked for the event loop came back to a task that slept.",
            buckets=_LOOP_SECONDS,
            registry=self.registry,
        )
        self.loop_delay = LoopDelay(delays.observe)
        """Runs in every process that has metrics."""

    def redis_failed(self, error: str) -> None:
        """Count a try that failed."""
        self._redis_errors.labels(error).inc()

    def replicas_missed(self) -> None:
        """Count a write that too few replicas had in time."""
        self._replicas_missed.inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All there is, and its content type: the text format, or OpenMetrics for who accepts that."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type


class Tally:
    """A histogram without a lock, for the token path: only the event loop's thread may touch it.

    `Histogram.observe` takes two locks and looks at each bound in turn.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def note(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The counts up to each bound, and the sum of all values."""
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True)), self._sum


class Tallies(Collector):
    """Tallies by one label, whose values are given at the start."""

    def __init__(
        self, name: str, said: str, label: str, values: Iterable[str], bounds: Sequence[float]
    ) -> None:
        self._family = name, said, [label]
        self.of: Mapping[str, Tally] = {value: Tally(bounds) for value in values}

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The family as it stands."""
        name, said, labels = self._family
        family = HistogramMetricFamily(name, said, labels=labels)
        for value, tally in self.of.items():
            family.add_metric([value], *tally.buckets())
        yield family
