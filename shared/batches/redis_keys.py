"""Names of what batches have in Redis, and how long it lives; `owned_by` is what `redis_keys.owner` gives."""

from __future__ import annotations

OPEN = "backline:open-batches"
"""Sorted set of batches that are not over by when someone is to see to them: the end of a lease (ms)."""
TTL_MS = 60 * 24 * 3_600_000
"""A batch's record, and what is gathered of it."""


def record(owned_by: str, batch_id: str) -> str:
    """Hash: a batch's record (`shared.batches`). `owned_by` is what `owner` gives."""
    return f"backline:batch:{owned_by}:{batch_id}"


def records(owned_by: str) -> str:
    """Sorted set of a tenant's batch ids by their creation (ms, Redis clock)."""
    return f"backline:batches:{owned_by}"


def results(owned_by: str, batch_id: str) -> str:
    """Hash of line numbers to what they gave, until that is in a blob."""
    return f"backline:batch-results:{owned_by}:{batch_id}"


def done(owned_by: str, batch_id: str) -> str:
    """Bitmap of the lines whose results are in a blob."""
    return f"backline:batch-done:{owned_by}:{batch_id}"


def parts(owned_by: str, batch_id: str) -> str:
    """List of the names of those blobs."""
    return f"backline:batch-parts:{owned_by}:{batch_id}"


def flight(owned_by: str, batch_id: str) -> str:
    """Hash of the ids of runs that may be under way to their line and agent."""
    return f"backline:batch-flight:{owned_by}:{batch_id}"
