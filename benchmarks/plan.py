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
    chats: int
    """Conversations kept live at the same time."""
    chat_turns: int
    resumed_chats: int
    resumed_turns: int
    seeded_turns: tuple[int, ...]
    """Lengths of the histories that the server does not know."""
    seeded_rounds: int
    batch_lines: int
    """Lines that wait while requests are made."""
    batch_requests: int
    batch_rate_lines: int
    batch_rounds: int
    key_requests: int
    keys: int
    runs: int
    """Runs in the list that the dashboard shows."""
    page_requests: int
    idle_s: float
    """How long a page is left open."""
    limit_s: float
    """Beyond it the run stops and reports what it has."""


FULL = Plan(
    first_token_requests=20,
    stream_counts=(1, 8, 24),
    stream_rounds=2,
    window_s=6.0,
    throughput_requests={1: 5, 8: 16, 32: 32},
    throughput_rounds=2,
    chats=16,
    chat_turns=6,
    resumed_chats=3,
    resumed_turns=7,
    seeded_turns=(2, 6, 10, 20, 40, 60, 80, 120),
    seeded_rounds=5,
    batch_lines=5_000,
    batch_requests=12,
    batch_rate_lines=24,
    batch_rounds=2,
    key_requests=1_000,
    keys=10_000,
    runs=1_000,
    page_requests=30,
    idle_s=20.0,
    limit_s=900.0,
)
"""Some twelve minutes on two quiet cores."""

QUICK = Plan(
    first_token_requests=6,
    stream_counts=(1, 8),
    stream_rounds=1,
    window_s=4.0,
    throughput_requests={1: 2, 8: 8, 32: 32},
    throughput_rounds=1,
    chats=5,
    chat_turns=5,
    resumed_chats=1,
    resumed_turns=6,
    seeded_turns=(2, 6, 10, 20, 40, 60, 80, 120),
    seeded_rounds=2,
    batch_lines=1_000,
    batch_requests=6,
    batch_rate_lines=12,
    batch_rounds=1,
    key_requests=200,
    keys=10_000,
    runs=1_000,
    page_requests=10,
    idle_s=5.0,
    limit_s=240.0,
)
"""Some two minutes on two quiet cores; too few for a p99 to mean much."""
