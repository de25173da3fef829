"""The gateway, asked by a client that costs next to nothing: one connection a request, no HTTP library."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from typing import cast

import msgspec
import psutil

from benchmarks.reply import SSE, BenchmarkError, Reply, Tap
from benchmarks.results import Cpu
from benchmarks.side import cpu_s
from benchmarks.stack import Stack

_QUIET_S = 60.0
_POLL_S = 0.05
_SESSION = re.compile(rb'"session_id":"([^"]+)"')

Messages = Sequence[dict[str, str]]


class Gateway:
    """Asks over `POST /v1/chat/completions` with `stream`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    async def ask(self, prompt: str, reply: Reply) -> None:
        """Connect, post, and read until the server closes."""
        await self.ask_after((), prompt, reply)

    async def ask_after(self, history: Messages, prompt: str, reply: Reply) -> None:
        """The same after `history`, all of which is sent along."""
        body = msgspec.json.encode(
            {
                "model": self._stack.agent.name,
                "stream": True,
                "messages": [*history, {"role": "user", "content": prompt}],
            }
        )
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        tap = Tap(SSE, reply)
        reply.began_ns = time.monotonic_ns()
        transport, call = await asyncio.get_running_loop().create_connection(
            lambda: _Call(request, tap, reply), "127.0.0.1", self._stack.port
        )
        try:
            await call.closed
        finally:
            transport.abort()
        if tap.failure is not None:
            raise tap.failure
        reply.require_whole()

    def cpu(self) -> Cpu:
        """CPU time so far."""
        stack = self._stack
        return Cpu(
            cli_s=cpu_s(stack.worker.children(recursive=True)),
            worker_s=cpu_s([stack.worker]),
            redis_s=cpu_s([stack.redis]),
            api_s=cpu_s([stack.api]),
            model_s=cpu_s([stack.model]),
            client_s=cpu_s([psutil.Process()]),
        )

    async def quiet(self) -> None:
        """Wait for the worker's CLIs to end: they outlive their replies by a little."""
        for _ in range(int(_QUIET_S / _POLL_S)):
            if not self._stack.worker.children():
                return
            await asyncio.sleep(_POLL_S)
        raise BenchmarkError("The worker's CLIs did not end.")


class _Call(asyncio.Protocol):
    def __init__(self, request: bytes, tap: Tap, reply: Reply) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request
        self._tap = tap
        self._reply = reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        for line in self._tap.feed(data, time.monotonic_ns()):
            if found := _SESSION.search(line):
                self._reply.session_id = found[1].decode()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
