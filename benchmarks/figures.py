"""The arithmetic of the results. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """How a measured quantity was spread; all but `count` in the quantity's own unit."""

    count: int
    p50: float
    p95: float
    p99: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, between neighbours by straight line.

    This is NumPy's default ("linear"). Raises `ValueError` when there are no values.
    """
    if not values:
        raise ValueError("There are no values.")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> Spread:
    """Sum up `values`; raises `ValueError` when there are none."""
    return Spread(
        count=len(values),
        p50=percentile(values, 50),
        p95=percentile(values, 95),
        p99=percentile(values, 99),
    )


def ratio(part: float, whole: float) -> float | None:
    """`part` / `whole`; `None` where that says nothing."""
    return part / whole if whole > 0 else None


def us_per_token(cpu_s: float, tokens: int) -> float:
    """Seconds of CPU over so many tokens as microseconds per token; 0 when there were none."""
    return 1e6 * cpu_s / tokens if tokens else 0.0
