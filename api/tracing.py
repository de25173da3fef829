"""The trace that a request is part of: its client's, or one that begins here. Its id is in every log line."""

from __future__ import annotations

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from shared.tracing import Tracing, trace_id_of, valid

TRACEPARENT = "traceparent"
"""In a scope's state: what the runs of the request go on from."""
_UNTRACED = frozenset({"/health", "/ready", "/metrics", "/metrics/workers"})


def with_trace(app: ASGIApp, tracing: Tracing | None) -> ASGIApp:
    """Wrap `app`: take a client's `traceparent` if it is one; with `tracing` make a span of the request."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] in _UNTRACED:
            await app(scope, receive, send)
        elif tracing is None:
            await _within(app, _asked_for(scope), scope, receive, send)
        else:
            await _as_span(app, tracing, scope, receive, send)

    return middleware


def traceparent_in(scope: Scope | dict[str, object]) -> str:
    """What a run of this request goes on from; empty when nobody traces it."""
    state = scope.get("state")
    return str(state.get(TRACEPARENT, "")) if isinstance(state, dict) else ""


async def _as_span(app: ASGIApp, tracing: Tracing, scope: HTTPScope, receive: Receive, send: Send) -> None:
    method, status = scope["method"], 0
    with tracing.span(method, "server", parent=_asked_for(scope), http__request__method=method) as span:

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await _within(app, span.traceparent, scope, receive, watched)
        finally:
            if route := scope.get("path_template"):
                span.rename(f"{method} {route}")
                span.note(http__route=route)
            state = scope.get("state", {})
            span.note(
                url__scheme=scope["scheme"],
                http__response__status_code=status or None,
                backline__request_id=state.get("request_id"),
            )
            if status >= 500:
                span.fail(str(status))


async def _within(app: ASGIApp, traceparent: str, scope: Scope, receive: Receive, send: Send) -> None:
    if not traceparent:
        await app(scope, receive, send)
        return
    scope.setdefault("state", {})[TRACEPARENT] = traceparent
    with structlog.contextvars.bound_contextvars(trace_id=trace_id_of(traceparent)):
        await app(scope, receive, send)


def _asked_for(scope: Scope) -> str:
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    return valid(found[0].decode("latin-1")) if len(found) == 1 else ""
