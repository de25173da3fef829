"""How much is measured, so that a run is bounded in count and in time."""

from __future__ import annotations

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are per side. A `window_s` is what is looked at once all streams are in their stride."""

    first_token_requests: int
    stream_counts: tuple[int, ...]
    stream_rounds: int
    window_s: float
    throughput_requests: dict[int, int]
    """Requests per round for each concurrency."""
    throughput_rounds: int
    limit_s: float
    """Beyond it the run stops and reports what it has."""


FULL = Plan(
    first_token_requests=20,
    stream_counts=(1, 8, 24),
    stream_rounds=2,
    window_s=6.0,
    throughput_requests={1: 5, 8: 16, 32: 32},
    throughput_rounds=2,
    limit_s=350.0,
)
"""Some four minutes on two quiet cores."""

QUICK = Plan(
    first_token_requests=6,
    stream_counts=(1, 8),
    stream_rounds=1,
    window_s=4.0,
    throughput_requests={1: 2, 8: 8, 32: 32},
    throughput_rounds=1,
    limit_s=85.0,
)
"""Under a minute on two quiet cores; too few for a p99 to mean much."""
