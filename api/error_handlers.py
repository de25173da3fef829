"""Whatever a handler raises, as an answer in the client's own envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from redis.exceptions import RedisError

from api.error_answers import body_of, status_of
from api.errors import ApiError, ClientGoneError, storage_full, unavailable
from shared.blobs import BlobError, BlobFullError

GONE = "client_gone"
"""What a request's state has when its client did not wait for the answer."""

_log = structlog.get_logger(__name__)


def _api_error(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    return Response(
        body_of(error, request.scope),
        status_code=status_of(error, request.scope),
        media_type="application/json",
        headers=error.headers,
    )


def _client_gone(request: Request[Any, Any, Any], _: ClientGoneError) -> Response[None]:
    request.state[GONE] = True
    return Response(None, status_code=499)


def _http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Litestar's own refusals (no route, wrong method, too large a body) in the client's envelope."""
    said = {
        404: f"Unknown request URL: {request.method} {request.url.path}.",
        405: f"Not allowed to {request.method} {request.url.path}.",
        413: "The request body is too large.",
    }.get(error.status_code, error.detail)
    code = {404: "unknown_url", 405: "method_not_allowed", 413: "request_too_large"}.get(error.status_code)
    param = None
    match error.extra:
        case [{"key": str(key), "message": str(why)}, *_]:  # a query parameter
            param, said, code = key, f"Invalid '{key}': {why}.", "invalid_value"
    answer = _api_error(request, ApiError(error.status_code, said, code=code, param=param))
    answer.headers.update(error.headers or {})  # 405 must say what is allowed (RFC 9110)
    return answer


def _redis_error(request: Request[Any, Any, Any], error: RedisError) -> Response[bytes]:
    _log.warning("redis_unreachable", error=str(error))
    return _api_error(request, unavailable("The queue does not answer right now."))


def _storage_error(request: Request[Any, Any, Any], error: BlobError) -> Response[bytes]:
    _log.error("storage_failed", error=str(error))
    return _api_error(request, unavailable("The storage of files does not answer right now."))


def _storage_full(request: Request[Any, Any, Any], error: BlobFullError) -> Response[bytes]:
    _log.error("storage_full", error=str(error))
    return _api_error(request, storage_full())


def _bug(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    _log.error("request_failed", exc_info=error)
    said = "The server failed on this request; its log has the details under the request id."
    return _api_error(
        request,
        ApiError(500, said, type="server_error", code="internal_error", is_retryable=False),
    )


HANDLERS: Mapping[int | type[Exception], Callable[..., Response[Any]]] = {
    ApiError: _api_error,
    ClientGoneError: _client_gone,
    HTTPException: _http_error,
    RedisError: _redis_error,
    BlobError: _storage_error,
    BlobFullError: _storage_full,
    Exception: _bug,
}
"""By what they are raised for: the nearest class has it."""
