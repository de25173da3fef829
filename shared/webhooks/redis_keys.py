"""Names of what webhooks have in Redis; `owned_by` is what `redis_keys.owner` gives."""

from __future__ import annotations

OPEN = "backline:open-webhooks"
"""Sorted set of endpoints that deliveries wait for by when the next is due (ms, Redis clock)."""


def records(owned_by: str) -> str:
    """Hash of id to record of a tenant's endpoints (`shared.webhooks`); kept until a client deletes them."""
    return f"backline:webhooks:{owned_by}"


def queue(place: str) -> str:
    """Sorted set of ids of events that wait for an endpoint by when they are due (ms).

    `place` is the tenant's part of names, a colon and the endpoint's id.
    """
    return f"backline:webhook-queue:{place}"


def deliveries(place: str) -> str:
    """Hash of ids of events to what became of them at an endpoint."""
    return f"backline:webhook-deliveries:{place}"


def shown(place: str) -> str:
    """Sorted set of the newest of those ids by when they were queued (ms)."""
    return f"backline:webhook-shown:{place}"


def flight(place: str) -> str:
    """Sorted set of those that are being delivered by the end of the lease (ms)."""
    return f"backline:webhook-flight:{place}"
