"""What stands before the routes, outermost first: trace, request id, safe headers, and no foreign pages."""

from __future__ import annotations

from typing import Final, NamedTuple

from litestar import Litestar
from litestar.types import ASGIApp

from api.crowds import refuse
from api.metrics.process import ApiMetrics
from api.origin import without_foreign_pages
from api.request_ids import with_request_id
from api.safe_headers import with_safe_headers
from api.tracing import with_trace
from shared.settings import Settings
from shared.tracing import Tracing

TELEMETRY: Final = "telemetry"
"""Where the routes' app has its `Telemetry`."""


class Telemetry(NamedTuple):
    """What is told of requests, and to whom."""

    metrics: ApiMetrics
    tracing: Tracing | None


def fronted(app: Litestar, settings: Settings) -> ASGIApp:
    """Wrap the routes in all that every request passes."""
    told: Telemetry = app.state[TELEMETRY]
    routes = with_safe_headers(without_foreign_pages(app, settings), settings)
    return with_trace(with_request_id(routes, told.metrics.request_ended), told.tracing)


def turned_away(settings: Settings, told: Telemetry) -> ASGIApp:
    """What answers an address that has too many connections, in the words of any other answer."""
    return with_request_id(with_safe_headers(refuse, settings), told.metrics.request_ended)
