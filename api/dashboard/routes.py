"""The routes below `/dashboard`: pages, and what they post to."""

from __future__ import annotations

from typing import Any, Final

import structlog
from litestar import Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler
from redis.exceptions import RedisError

from api.csrf import require_own_page
from api.dashboard.agents import agents_page
from api.dashboard.batches import batch_page, batches_page, cancel_batch_page
from api.dashboard.dead import change_dead, dead_page, discard_dead, retry_dead
from api.dashboard.keys import keys_page, make_key, revoke_key_page, rotate_key_page
from api.dashboard.login import log_in, log_out, login_page
from api.dashboard.overview import feed, overview, series
from api.dashboard.page import error_page
from api.dashboard.playground import playground
from api.dashboard.runs import cancel_run_page, run_events, run_page, runs_page
from api.dashboard.sessions import delete_session_page, session, sessions
from api.dashboard.workers import drain_worker, workers
from api.errors import ApiError, unavailable

_log = structlog.get_logger(__name__)


async def _own_page(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """The guard of every page: a change needs the token, whether or not a key is needed."""
    await require_own_page(connection)


def _redis_away(request: Request[Any, Any, Any], error: RedisError) -> Response[Any]:
    _log.warning("redis_unreachable", error=str(error))
    return error_page(request, unavailable("The queue does not answer right now."))


PAGES: Final[list[HTTPRouteHandler]] = [
    overview,
    feed,
    series,
    login_page,
    log_in,
    log_out,
    playground,
    runs_page,
    run_page,
    run_events,
    cancel_run_page,
    workers,
    drain_worker,
    agents_page,
    sessions,
    session,
    delete_session_page,
    batches_page,
    batch_page,
    cancel_batch_page,
    dead_page,
    retry_dead,
    discard_dead,
    change_dead,
    keys_page,
    make_key,
    rotate_key_page,
    revoke_key_page,
]

dashboard = Router(
    path="/dashboard",
    route_handlers=PAGES,
    guards=[_own_page],
    exception_handlers={ApiError: error_page, RedisError: _redis_away},
    include_in_schema=False,
)
