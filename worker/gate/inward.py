"""The side of the CLIs: reads their requests one by one, and takes the bytes of the answers."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import httptools
import msgspec
import structlog

from worker.gate.refusals import RefusedError

_MOST_HEAD = 128 * 1024
_MOST_BODY = 64 * 1024 * 1024
_MOST_CONNECTIONS = 1024
"""Whoever can reach the port can open them, and each takes one of the worker's descriptors."""
_IDLE_S = 60.0
"""How long a connection may take over its next request, whole."""

_log = structlog.get_logger(__name__)


class Head(msgspec.Struct):
    """The head of a request: the target as it was sent, header names in lower case."""

    method: bytes = b""
    target: bytes = b""
    headers: list[tuple[bytes, bytes]] = []

    @property
    def path(self) -> bytes:
        """The target without its query."""
        return self.target.partition(b"?")[0]


class Serving(Protocol):
    """What a connection asks for its requests."""

    def admit(self, head: Head) -> None:
        """Raise `RefusedError` unless a request with this head may go on."""

    async def serve(self, head: Head, body: bytes, to: Inward) -> None:
        """Answer one request by `to.write`; raise `RefusedError` as long as nothing is written."""


class Inward(asyncio.Protocol):
    """One connection of a CLI's. When it hangs up, its call is cancelled."""

    def __init__(self, serving: Serving, connections: set[Inward]) -> None:
        self._serving = serving
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._source: asyncio.ReadTransport | None = None
        self._refusal: RefusedError | None = None
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        self._begin()
        self._connections.add(self)
        if len(self._connections) > _MOST_CONNECTIONS:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:  # noqa: D102
        self._connections.discard(self)
        self._stop_waiting()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._task is not None:  # it does not wait for its answer, as every client of ours does
            self._transport.abort()
            return
        self._head_size += 0 if self._has_head else len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(RefusedError(400, "invalid_request_error", "This is no HTTP request."), is_last=True)
            return
        if not self._has_head and self._head_size > _MOST_HEAD:
            self._transport.abort()

    def pause_writing(self) -> None:
        """Hold up whoever writes here, until the client has read."""
        if self._source is not None:
            self._source.pause_reading()

    def resume_writing(self) -> None:
        """Let whoever writes here go on."""
        if self._source is not None:
            self._source.resume_reading()

    def take_from(self, source: asyncio.ReadTransport | None) -> None:
        """What is written from now on comes from `source`, which waits when the client is slow."""
        self._source = source

    def write(self, data: bytes) -> None:
        """Send raw bytes of an answer."""
        self._transport.write(data)

    def close(self) -> None:
        """Hang up, after what was written has been sent."""
        self._transport.close()

    def on_message_begin(self) -> None:  # noqa: D102 - this and what follows is the parser's
        if self._task is not None:  # it came in one piece with the request that is being served
            self._transport.abort()
            self._head = Head()  # the other one's was admitted as it is

    def on_url(self, url: bytes) -> None:  # noqa: D102
        self._head.target += url

    def on_header(self, name: bytes, value: bytes) -> None:  # noqa: D102
        self._head.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:  # noqa: D102
        self._has_head = True
        self._head.method = self._parser.get_method()
        try:
            self._serving.admit(self._head)
        except RefusedError as error:
            self._refusal = error

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._size += len(body)
        if self._size > _MOST_BODY:
            self._body.clear()
            self._refusal = RefusedError(413, "request_too_large", "The request is too large.")
        if self._refusal is None:
            self._body.append(body)

    def on_message_complete(self) -> None:  # noqa: D102
        if self._task is not None:
            return
        if self._refusal is not None:
            self._refuse(self._refusal)
            self._begin()
            return
        self._stop_waiting()
        self._task = self._loop.create_task(self._serve(self._head, b"".join(self._body)))

    def _begin(self) -> None:
        """Be ready for the next request, for so long."""
        self._head, self._body, self._size, self._head_size = Head(), list[bytes](), 0, 0
        self._has_head = False
        self._refusal = None
        self._parser = httptools.HttpRequestParser(self)
        self._stop_waiting()
        self._idle = self._loop.call_later(_IDLE_S, self._transport.close)

    def _stop_waiting(self) -> None:
        if self._idle is not None:
            self._idle.cancel()

    async def _serve(self, head: Head, body: bytes) -> None:
        try:
            await self._serving.serve(head, body, self)
        except RefusedError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client must not wait for it
            _log.error("model_call_failed", exc_info=error)
            self._transport.abort()
        finally:
            self._task = self._source = None
        if not self._transport.is_closing():
            self._begin()

    def _refuse(self, error: RefusedError, *, is_last: bool = False) -> None:
        _log.warning("model_call_refused", status=error.status, because=error.message)
        self.write(error.as_http(is_last=is_last))
        if is_last:
            self.close()
