"""What every answer tells a browser, unless its handler has said something else."""

from __future__ import annotations

from litestar.config.cors import CORSConfig
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from shared.settings import Settings

SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Answers are private, and data: nothing in one is to be run, framed, kept or embedded by a page."""
_EXPOSED = (
    *(
        "openai-processing-ms",
        "request-id",
        "retry-after",
        "retry-after-ms",
        "x-request-id",
        "x-should-retry",
    ),
    *("x-backline-conversation-id", "x-backline-run-id", "x-backline-session-id"),
    *("x-backline-answered-by", "x-backline-cache", "idempotent-replayed"),
    *(
        f"x-ratelimit-{part}-{what}"
        for part in ("limit", "remaining", "reset")
        for what in ("requests", "tokens")
    ),
)
"""Headers that a page's script may read, as clients outside a browser do."""
_PREFLIGHT_S = 600


def with_safe_headers(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Wrap `app`: add the headers that an answer has not got; with `allowed_origins` it varies by origin."""
    has_origins = bool(settings.allowed_origins)

    async def safe(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.lower(), value) for name, value in message["headers"]]
                said = {name for name, _ in headers}
                headers += [(name, value) for name, value in SAFE_HEADERS if name not in said]
                if has_origins and b"vary" not in said:
                    headers.append((b"vary", b"Origin"))
                message["headers"] = headers
            await send(message)

        await app(scope, receive, send_safely if scope["type"] == ScopeType.HTTP else send)

    return safe


def cors_of(settings: Settings) -> CORSConfig | None:
    """What pages of `allowed_origins` may do: with a key, never with cookies; `None` without such pages."""
    if not settings.allowed_origins:
        return None
    return CORSConfig(
        allow_origins=list(settings.allowed_origins),
        allow_methods=["GET", "POST", "DELETE"],
        expose_headers=list(_EXPOSED),
        max_age=_PREFLIGHT_S,
    )
