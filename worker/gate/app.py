"""The proxy itself: checks who asks and for what, adds the credential, and passes bytes on as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

import httpx
import msgspec
import structlog

from worker.gate.holds import Holds
from worker.gate.metering import Meter
from worker.gate.passes import Pass, Passes
from worker.gate.upstream import Upstream

_COUNTED = "/v1/messages"
_PATHS = {_COUNTED, "/v1/messages/count_tokens"}
_MOST_BODY = 64 * 1024 * 1024
_OWN = {b"host", b"content-length", b"accept-encoding", b"x-api-key", b"authorization", b"expect", b"cookie"}
_TIMEOUTS = {"connect": 10.0, "read": 600.0, "write": 600.0, "pool": None}
"""In seconds. What bounds a call is the run; these end a connection on which nobody speaks."""
_HOP = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer"),
    *(b"transfer-encoding", b"upgrade", b"proxy-connection"),
}

_log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class _Asked(msgspec.Struct, frozen=True):
    model: str = ""


class _RefusedError(Exception):
    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


class Proxy:
    """An ASGI application. `models` are those that may be called; any when there are none."""

    def __init__(
        self,
        upstream: Upstream,
        passes: Passes,
        transport: httpx.AsyncBaseTransport,
        models: Iterable[str] = (),
    ) -> None:
        self._upstream = upstream
        self._added = [(name.encode(), value.encode()) for name, value in upstream.headers.items()]
        self._passes = passes
        self._transport = transport  # not a client: what it does besides is time before the first token
        self._models = frozenset(models)
        self._holds = Holds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; a client that hangs up ends the call upstream too."""
        try:
            issued = self._admit(scope)
            body = await _body(receive)
            if body is None:
                return
            model = self._model_of(body)
            async with asyncio.TaskGroup() as group:
                call = group.create_task(self._call(scope, body, model, issued, send))
                gone = group.create_task(_until_gone(receive, call))
                call.add_done_callback(lambda _: gone.cancel())
        except _RefusedError as error:
            _log.warning("model_call_refused", status=error.status, because=error.message)
            await _say_error(send, error)

    def _admit(self, scope: Scope) -> Pass:
        issued = self._passes.find(dict(scope["headers"]))
        if issued is None:
            raise _RefusedError(401, "authentication_error", "This is no pass for the model.")
        if scope["method"] != "POST" or scope["path"] not in _PATHS:
            raise _RefusedError(404, "not_found_error", "Only messages are served here.")
        return issued

    def _model_of(self, body: bytes) -> str:
        try:
            model = _decode.decode(body).model
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _RefusedError(400, "invalid_request_error", "The request is no JSON object.") from error
        if self._models and model not in self._models:
            raise _RefusedError(403, "permission_error", f"The model {model[:100]!r} is not allowed here.")
        return model

    async def _call(self, scope: Scope, body: bytes, model: str, issued: Pass, send: Send) -> None:
        await self._holds.wait(model)
        query = scope["query_string"].decode("latin-1")
        kept = [(name, value) for name, value in scope["headers"] if name not in _OWN | _HOP]
        request = httpx.Request(
            "POST",
            self._upstream.url + scope["path"] + (f"?{query}" if query else ""),
            headers=[*_without(kept, self._added), *self._added, (b"accept-encoding", b"identity")],
            content=body,
            extensions={"timeout": _TIMEOUTS},
        )
        try:
            answer = await self._transport.handle_async_request(request)
        except httpx.HTTPError as error:
            _log.warning("upstream_unreachable", error=str(error) or type(error).__name__)
            await _say_error(send, _RefusedError(502, "api_error", "The model's service did not answer."))
            return
        try:
            self._holds.note(model, answer.status_code, answer.headers)
            await _pass_on(answer, issued if scope["path"] == _COUNTED else None, send)
        finally:
            await answer.aclose()


async def _pass_on(answer: httpx.Response, issued: Pass | None, send: Send) -> None:
    """Send on each piece as it comes; an answer that is cut upstream is cut here, not ended."""
    headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    is_stream = answer.headers.get("content-type", "").startswith("text/event-stream")
    meter = None if issued is None else Meter(issued, is_stream=is_stream)
    try:
        async for chunk in cast("httpx.AsyncByteStream", answer.stream):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if meter is not None:
                meter.feed(chunk)
    except httpx.HTTPError:
        return  # without its last word the server closes the connection
    finally:
        if meter is not None:
            meter.close()
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _body(receive: Receive) -> bytes | None:
    """The whole body; `None` when the client has gone before its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MOST_BODY:
            raise _RefusedError(413, "request_too_large", "The request is too large.")
        if not message.get("more_body"):
            return b"".join(parts)


async def _until_gone(receive: Receive, call: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    call.cancel()


def _without(
    headers: list[tuple[bytes, bytes]], added: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    names = {name for name, _ in added}
    return [(name, value) for name, value in headers if name not in names]


async def _say_error(send: Send, error: _RefusedError) -> None:
    body = msgspec.json.encode({"type": "error", "error": {"type": error.kind, "message": error.message}})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_decode = msgspec.json.Decoder(_Asked)
