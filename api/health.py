"""Whether the process lives, and whether it could serve a run right now."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Request, Response, get
from redis.exceptions import RedisError

from api.access import OPEN, is_known
from shared.registry import CachedRegistry


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

    Where keys are asked for, who brings none is told no more than the number of workers.
    """

    status: str
    reason: str | None = None
    agents: list[str] = []
    workers: int = 0
    slots: int = 0
    busy: int = 0
    cli_versions: list[str] = []


@get("/health", tags=["Health"], opt=OPEN)
async def health() -> Health:
    """Answer 200 while the process lives."""
    return Health(version=version("backline"))


@get("/ready", tags=["Health"], opt=OPEN)
async def ready(
    request: Request[Any, Any, Any], registry: CachedRegistry, drain: Drain
) -> Response[Readiness]:
    """Answer 200 when Redis answers and a live worker serves an agent, else 503 with the reason."""
    if drain.has_begun:
        return _not_ready("This replica is stopping.")
    try:
        known = await registry.look(fresh=True)
        may_look = await is_known(request)
    except (RedisError, OSError):
        return _not_ready("Redis does not answer.")
    if not known.served:
        return _not_ready("No live worker serves an agent.")
    if not may_look:
        return Response(Readiness(status="ready", workers=len(known.workers)))
    return Response(
        Readiness(
            status="ready",
            agents=list(known.served),
            workers=len(known.workers),
            slots=sum(worker.slots for worker in known.workers),
            busy=sum(worker.busy for worker in known.workers),
            cli_versions=sorted({worker.cli_version for worker in known.workers}),
        )
    )


def _not_ready(reason: str) -> Response[Readiness]:
    return Response(
        Readiness(status="unavailable", reason=reason), status_code=503, headers={"retry-after": "2"}
    )
