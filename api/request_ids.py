"""Every request has an id: in its answer's headers, in every log line, and in the run it starts."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from api.dialect import is_anthropics

_ACCEPTED = re.compile(rb"[A-Za-z0-9_.-]{1,100}")
_QUIET = frozenset({"/health", "/ready", "/metrics", "/metrics/workers"})

_log = structlog.get_logger(__name__)


Note = Callable[[HTTPScope, int, float], None]
"""Told of each request that has ended: its status, 0 without an answer, and how long it took (s)."""


def with_request_id(app: ASGIApp, note: Note) -> ASGIApp:
    """Wrap `app`: take a proxy's `x-request-id` or make one, answer with it; log the request, `note` it."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        began = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableScopeHeaders.from_message(message)
                headers["x-request-id"] = request_id
                if is_anthropics(scope):
                    headers["request-id"] = request_id
                else:
                    headers["openai-processing-ms"] = str(round(1000 * (time.perf_counter() - began)))
                    headers["openai-version"] = "2020-10-01"
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await app(scope, receive, send_with_id)
            finally:
                seconds = time.perf_counter() - began
                note(scope, status, seconds)
                if scope["path"] not in _QUIET:
                    _log.info(
                        "request",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        seconds=round(seconds, 3),
                    )

    return middleware


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ACCEPTED.fullmatch(value):
            return value.decode("ascii")
    return f"req_{secrets.token_hex(16)}"
