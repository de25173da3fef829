"""Every name Backline uses in Redis, and how long each lives, in one place.

The `arq:` names are ARQ 0.28's own wire format. Scripts build `arq:in-progress:` names from run ids, so
all of it lives on one Redis (primary), not on a cluster.
"""

from __future__ import annotations

from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix

WORKERS = "backline:workers"
"""Sorted set of worker ids by the time (ms, Redis clock) their record lapses."""
AGENTS = "backline:agents"
"""Hash of agent name to the record last announced, kept a week after the last worker left."""

LEASE_MS = 8_000
"""A worker silent for this long has lost its runs."""
RENEW_S = 2.0
"""How often a worker renews its leases and its own record."""
AGENTS_TTL_MS = 7 * 24 * 3_600_000
RUN_SLACK_MS = 3_600_000
"""A run's record outlives its own deadlines by this much, so that a late reader still finds why it ended."""


def run(run_id: str) -> str:
    """Hash: the run's record."""
    return f"backline:run:{run_id}"


def events(run_id: str) -> str:
    """Stream of the run's events, and the channel they are published on."""
    return f"backline:events:{run_id}"


def queue(agent: str) -> str:
    """ARQ queue (sorted set of run ids by due time in ms) of one agent."""
    return f"backline:queue:{agent}"


def doorbell(agent: str) -> str:
    """Channel that wakes the workers of an agent."""
    return f"backline:doorbell:{agent}"


def worker(worker_id: str) -> str:
    """Record of a live worker."""
    return f"backline:worker:{worker_id}"


def control(worker_id: str) -> str:
    """Channel on which a worker hears the ids of runs to cancel."""
    return f"backline:control:{worker_id}"


def job(run_id: str) -> str:
    """ARQ's job body: the function's name and the run id."""
    return job_key_prefix + run_id


def lease(run_id: str) -> str:
    """ARQ's in-progress key; here its value is the owner and its time to live the lease."""
    return in_progress_key_prefix + run_id


def retry(run_id: str) -> str:
    """ARQ's count of starts."""
    return retry_key_prefix + run_id
