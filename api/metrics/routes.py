"""`GET /metrics`, and where the workers' own are."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog
from litestar import MediaType, Request, Response, get
from redis.exceptions import RedisError

from api.access import METRICS
from api.metrics.process import ApiMetrics
from api.metrics.system import SystemMetrics, without_redis
from shared.registry import CachedRegistry

_log = structlog.get_logger(__name__)


class Target(msgspec.Struct, frozen=True):
    """A worker as Prometheus's HTTP service discovery wants it: its address, and labels for its series."""

    targets: list[str]
    labels: dict[str, str]


def _redis_is_away(_: Request[Any, Any, Any], error: RedisError) -> Response[bytes]:
    """Nobody can tell who asks; whoever it is may know what `/ready` tells all, and the alarm must ring."""
    _log.warning("metrics_without_redis", error=str(error))
    content, media_type = without_redis()
    return Response(content, media_type=media_type)


@get(
    "/metrics",
    tags=["Health"],
    media_type=MediaType.TEXT,
    opt=METRICS,
    exception_handlers={RedisError: _redis_is_away},
)
async def read_metrics(
    request: Request[Any, Any, Any], process_metrics: ApiMetrics, system_metrics: SystemMetrics
) -> Response[bytes]:
    """Show what this process counts, and what holds for all, as Prometheus reads it."""
    await system_metrics.look()
    content, media_type = process_metrics.exposition(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)


@get("/metrics/workers", tags=["Health"], opt=METRICS)
async def list_worker_metrics(registry: CachedRegistry) -> list[Target]:
    """List where live workers show their metrics, for Prometheus's `http_sd_configs`."""
    known = await registry.look()
    return [Target([each.metrics], {"host": each.host}) for each in known.workers if each.metrics]
