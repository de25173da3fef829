"""The arithmetic of the results. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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


def crossing(points: Sequence[tuple[float, float, float]]) -> float | None:
    """The x beyond which the first line lies above the second for good, between points by straight line.

    `points` are (x, first, second), in order of x. `None` when the last point is not above; the first x
    when all are.
    """
    over = [first - second for _, first, second in points]
    below = [number for number, difference in enumerate(over) if difference <= 0]
    if not points or (below and below[-1] == len(points) - 1):
        return None
    if not below:
        return points[0][0]
    last = below[-1]
    start, end = points[last][0], points[last + 1][0]
    return start + (end - start) * -over[last] / (over[last + 1] - over[last])


def hits(turns: Sequence[tuple[str, frozenset[int]]]) -> int:
    """How many turns after the first went on in the session before, and in a process that was there.

    Of each turn: its session, and the worker's processes after it.
    """
    return sum(before[0] == after[0] != "" and after[1] <= before[1] for before, after in pairwise(turns))


def us_per_token(cpu_s: float, tokens: int) -> float:
    """Seconds of CPU over so many tokens as microseconds per token; 0 when there were none."""
    return 1e6 * cpu_s / tokens if tokens else 0.0
