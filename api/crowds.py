"""What an address is told that has too many connections open."""

from __future__ import annotations

from litestar.enums import ScopeType
from litestar.types import Receive, Scope, Send

from api.error_answers import body_of, status_of
from api.errors import ApiError

_RETRY_S = 1.0


async def refuse(scope: Scope, _: Receive, send: Send) -> None:
    """Answer any request: its address has too many connections. It is the last one on its connection."""
    if scope["type"] != ScopeType.HTTP:
        return
    said = "Too many connections are open from this address. Close some, or try again later."
    error = ApiError(
        429,
        said,
        type="rate_limit_error",
        code="too_many_connections",
        retry_after_s=_RETRY_S,
        is_retryable=True,
    )
    body = body_of(error, scope)
    given = {**error.headers, "content-type": "application/json", "connection": "close"}
    headers = [(name.encode(), value.encode()) for name, value in given.items()]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status_of(error, scope), "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
