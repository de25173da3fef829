"""Keeps web pages out: a browser on the operator's machine reaches loopback too.

A page may post to any address without asking, and one whose name is rebound to 127.0.0.1 may read the
answers. So a foreign page's request is refused, and on loopback only loopback's own names are answered to.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from api.error_answers import body_of
from api.errors import ApiError
from shared.loopback import is_loopback
from shared.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_FOREIGN = frozenset({"cross-site", "same-site"})


def without_foreign_pages(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap `app`: 403 for hosts and origins that the settings do not name."""
    hosts = frozenset(settings.allowed_hosts) | (_LOOPBACK if is_loopback(settings.host) else frozenset())

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        error = _refusal(headers, hosts, frozenset(settings.allowed_origins))
        if error is None:
            await app(scope, receive, send)
            return
        body = body_of(error, scope)
        await send(
            {
                "type": "http.response.start",
                "status": error.status,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return guarded


def _refusal(headers: dict[bytes, str], hosts: frozenset[str], origins: frozenset[str]) -> ApiError | None:
    host = headers.get(b"host", "")
    if hosts and _name_of(host) not in hosts:
        said = "This server does not answer to that host name; the setting allowed_hosts adds names."
        return ApiError(403, said, type="permission_error", code="host_not_allowed")
    origin = headers.get(b"origin")
    if origin is not None and origin in origins:
        return None
    is_foreign = headers.get(b"sec-fetch-site") in _FOREIGN
    if is_foreign or (origin is not None and urlsplit(origin).netloc != host):
        said = "Requests of other web pages are refused: the setting allowed_origins has those that may ask."
        return ApiError(403, said, type="permission_error", code="origin_not_allowed")
    return None


def _name_of(host: str) -> str:
    """The name in a `Host` header, without port and brackets; empty for what is not one."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
