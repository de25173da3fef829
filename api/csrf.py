"""Whether a change was asked for by a page of ours: it sends what only a page of this origin can read."""

from __future__ import annotations

import hmac
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection

from api.browser_sessions import COOKIE, token_of
from api.errors import ApiError

HEADER: Final = "x-csrf-token"
FIELD: Final = "csrf"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"


async def require_own_page(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Let pass what only reads, and a change with the token of its cookie; raises `ApiError` 403."""
    if not isinstance(connection, Request) or connection.method in _SAFE:
        return
    cookie = connection.cookies.get(COOKIE, "")
    given = connection.headers.get(HEADER) or await _in_form(connection)
    if not cookie or not hmac.compare_digest(given.encode(), token_of(cookie).encode()):
        said = "This page is out of date, or not ours. Load it again and repeat what you did."
        raise ApiError(403, said, type="permission_error", code="csrf_token_invalid", is_retryable=False)


async def _in_form(request: Request[Any, Any, Any]) -> str:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return ""
    return str((await request.form()).get(FIELD, ""))
