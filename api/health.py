"""Whether the process lives, and whether it could serve a run right now."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request, Response, get
from redis.exceptions import RedisError

from api.access import OPEN, known_principal
from api.agents_allowed import seen_by
from shared.data_mark import DataMark
from shared.files import Files
from shared.registry import CachedRegistry, Registry


class Drain:
    """Whether this replica has been told to stop."""

    def __init__(self) -> None:
        self.has_begun = False


class Health(msgspec.Struct, frozen=True):
    """The answer to `GET /health`."""

    version: str
    status: str = "ok"


class Readiness(msgspec.Struct, frozen=True):
    """The answer to `GET /ready`; `reason` says what is missing.

    Where keys are asked for, who brings none is told no more than the number of workers, and a key for some
    agents of no others.
    `storage` is why no file can be stored for now, null when it can, or nobody knows.
    `unavailable` are the agents that no worker can run for now, and why.
    `data_lost_at` is when this replica saw that Redis had lost its data (s since the epoch), null if never.
    """

    status: str
    reason: str | None = None
    agents: list[str] = []
    workers: int = 0
    slots: int = 0
    busy: int = 0
    cli_versions: list[str] = []
    data_lost_at: int | None = None
    unavailable: dict[str, str] = {}
    storage: str | None = None


@get("/health", tags=["Health"], opt=OPEN)
async def health() -> Health:
    """Answer 200 while the process lives."""
    return Health(version=version("backline"))


@get("/ready", tags=["Health"], opt=OPEN)
async def ready(
    request: Request[Any, Any, Any],
    registry: CachedRegistry,
    drain: Drain,
    data_mark: DataMark,
    files: Files,
) -> Response[Readiness]:
    """Answer 200 when Redis answers and a live worker serves an agent, else 503 with the reason."""
    if drain.has_begun:
        return _not_ready("This replica is stopping.")
    try:
        known = await registry.look(fresh=True)
        await data_mark.look()
        principal = await known_principal(request)
    except (RedisError, OSError):
        return _not_ready("Redis does not answer.")
    told = seen_by(principal, known) if principal is not None else Registry()
    if not known.served:
        is_lost = data_mark.lost_at is not None
        said = "Redis has lost its data, and no live worker" if is_lost else "No live worker"
        return _not_ready(f"{said} serves an agent.", data_mark.lost_at, told.unavailable)
    if principal is None:
        return Response(Readiness(status="ready", workers=len(known.workers)))
    return Response(
        Readiness(
            status="ready",
            agents=list(told.served),
            workers=len(known.workers),
            slots=sum(worker.slots for worker in known.workers),
            busy=sum(worker.busy for worker in known.workers),
            cli_versions=sorted({worker.cli_version for worker in known.workers}),
            data_lost_at=data_mark.lost_at,
            unavailable=told.unavailable,
            storage=await files.trouble() or None,
        )
    )


def _not_ready(
    reason: str, data_lost_at: int | None = None, unavailable: dict[str, str] | None = None
) -> Response[Readiness]:
    return Response(
        Readiness(
            status="unavailable", reason=reason, data_lost_at=data_lost_at, unavailable=unavailable or {}
        ),
        status_code=503,
        headers={"retry-after": "2"},
    )
