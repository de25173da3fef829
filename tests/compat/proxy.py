"""A reverse proxy between any client and the API that keeps what passed, and holds nothing back."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import uvicorn

from shared.tasks import end_tasks
from tests.support.waiting import wait_for

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_HOP = {b"connection", b"transfer-encoding", b"keep-alive"}
# Without accept-encoding, answers pass as they can be read.
_NOT_SENT_ON = _HOP | {b"host", b"accept-encoding", b"content-length"}


class Exchange(msgspec.Struct):
    """A request and what has come back so far; `is_whole` once the answer ended by itself."""

    method: str
    path: str
    request_headers: dict[str, str]
    request: bytes
    status: int = 0
    headers: dict[str, str] = {}
    answer: bytes = b""
    is_whole: bool = False

    def json(self) -> Any:
        """The answer, decoded."""
        return msgspec.json.decode(self.answer)


class Proxy:
    """The ASGI app, and what has passed since the last `forget`."""

    def __init__(self, target: str, url: str) -> None:
        self.url = url
        self.exchanges: list[Exchange] = []
        self._target = target
        self._upstream = httpx.AsyncClient(timeout=None, trust_env=False)  # noqa: S113 - the client's own ends it

    def forget(self) -> None:
        """Begin anew."""
        self.exchanges = []

    async def serve(self, listener: socket.socket, server: uvicorn.Server) -> None:
        """Pass requests on until `server` should exit."""
        async with self._upstream:
            await server.serve(sockets=[listener])

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        exchange = Exchange(
            scope["method"], scope["path"], _texts(scope["headers"]), await _whole_body(receive)
        )
        self.exchanges.append(exchange)
        request = self._upstream.build_request(
            scope["method"],
            f"{self._target}{scope['raw_path'].decode()}?{scope['query_string'].decode()}".rstrip("?"),
            headers=[pair for pair in scope["headers"] if pair[0] not in _NOT_SENT_ON],
            content=exchange.request,
        )
        answering = asyncio.ensure_future(self._answer(request, exchange, send))
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                answering.result()
        finally:
            await end_tasks([answering, gone])

    async def _answer(self, request: httpx.Request, exchange: Exchange, send: _Send) -> None:
        answer = await self._upstream.send(request, stream=True)
        try:
            headers = [
                (name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP
            ]
            exchange.status, exchange.headers = answer.status_code, _texts(headers)
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for piece in answer.aiter_raw():
                exchange.answer += piece
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            exchange.is_whole = True
            await send({"type": "http.response.body", "body": b""})
        finally:
            await answer.aclose()


@contextmanager
def running_proxy(target: str) -> Iterator[Proxy]:
    """A proxy to `target` in a thread, so that clients that block can be tested too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(target, f"http://127.0.0.1:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            proxy, lifespan="off", ws="none", log_config=None, server_header=False, date_header=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(listener, server)))
        thread.start()
        try:
            wait_for(lambda: server.started or not thread.is_alive(), 10, "the proxy listens")
            yield proxy
        finally:
            server.should_exit = True
            thread.join(10)


def _texts(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


async def _whole_body(receive: _Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        piece: bytes = message.get("body", b"")
        body += piece
        if not message.get("more_body"):
            return body


async def _until_gone(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
