"""The side of the service: connections that are kept, and answers passed on byte for byte as they come.

HTTP/1.1 on both sides, so nothing is taken apart on the way; a parser beside it says where an answer ends.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from typing import Protocol, cast
from urllib.parse import SplitResult, unquote, urlsplit

import httptools

from worker.gate.inward import Inward

_CONNECT_S = 10.0
_SILENCE_S = 600.0
"""What bounds a call is its run; this ends a connection on which nobody speaks."""
_KEPT = 64
_KEPT_S = 60.0
_PORTS = {"http": 80, "https": 443}
_OK = 200


class Watch(Protocol):
    """Looks on while an answer passes."""

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        """The answer begins; header names in lower case."""

    def on_body(self, chunk: bytes) -> None:
        """A piece of its body has passed."""


class Outward:
    """The way to one service. `proxy` is an HTTP proxy to go through, `context` what TLS trusts."""

    def __init__(self, url: str, context: ssl.SSLContext, proxy: str | None = None) -> None:
        self._to = urlsplit(url)
        self._context = context
        self._proxy = urlsplit(proxy) if proxy else None
        self._idle: list[tuple[float, _Line]] = []
        self.host = self._to.netloc.rpartition("@")[2].encode()
        self.base = self._to.path.rstrip("/").encode()

    async def call(self, request: bytes, body: bytes, to: Inward, watch: Watch) -> None:
        """Send a request and pass its answer on; `to` is closed when the answer does not allow another.

        Raises `OSError` when nothing came back: the service is not there, or hung up.
        """
        line = self._kept() or await self._connected()
        try:
            is_whole = await line.ask(request, body, to, watch)
        except BaseException:
            line.abort()
            raise
        if is_whole:
            self._keep(line)
        else:
            line.abort()
            to.close()

    def close(self) -> None:
        """End the connections that are kept."""
        while self._idle:
            self._idle.pop()[1].abort()

    def _kept(self) -> _Line | None:
        now = asyncio.get_running_loop().time()
        while self._idle:
            since, line = self._idle.pop()
            if line.is_open and now - since < _KEPT_S:
                return line
            line.abort()
        return None

    def _keep(self, line: _Line) -> None:
        self._idle.append((asyncio.get_running_loop().time(), line))
        if len(self._idle) > _KEPT:
            self._idle.pop(0)[1].abort()

    async def _connected(self) -> _Line:
        loop, host = asyncio.get_running_loop(), self._to.hostname or ""
        port = self._to.port or _PORTS[self._to.scheme]
        context = self._context if self._to.scheme == "https" else None
        async with asyncio.timeout(_CONNECT_S):
            if self._proxy is None:
                return (await loop.create_connection(_Line, host, port, ssl=context))[1]
            transport = await self._through(self._proxy, f"{host}:{port}")
            line = _Line()
            if context is not None:
                tls = await loop.start_tls(transport, line, context, server_hostname=host)
                transport = cast("asyncio.Transport", tls)
            else:
                transport.set_protocol(line)
            line.connection_made(transport)
            return line

    async def _through(self, proxy: SplitResult, target: str) -> asyncio.Transport:
        """A connection to `target` that `proxy` has opened (RFC 9110, CONNECT)."""
        context = self._context if proxy.scheme == "https" else None
        port = proxy.port or _PORTS[proxy.scheme]
        loop = asyncio.get_running_loop()
        transport, tunnel = await loop.create_connection(_Tunnel, proxy.hostname or "", port, ssl=context)
        head = f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n"
        if proxy.username is not None:
            user = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
            head += f"proxy-authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n"
        transport.write(f"{head}\r\n".encode())
        try:
            await tunnel.opened
        except BaseException:
            transport.abort()
            raise
        return transport


class _Line(asyncio.Protocol):
    """A connection to the service, for one call at a time."""

    def __init__(self) -> None:
        self._call: _Call | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self._call is not None:
            self._call.end(is_whole=False)

    def data_received(self, data: bytes) -> None:
        if self._call is None:  # it speaks unasked
            self.abort()
        else:
            self._call.take(data)

    def abort(self) -> None:
        self.is_open = False
        self._transport.abort()

    async def ask(self, request: bytes, body: bytes, to: Inward, watch: Watch) -> bool:
        """Pass the answer on to `to`; whether it came to an end after which another call may follow."""
        call = self._call = _Call(to, watch)
        to.take_from(self._transport)
        self._transport.writelines([request, body])
        try:
            return await call.whole()
        finally:
            self._call = None
            to.take_from(None)
            if self.is_open:
                self._transport.resume_reading()


class _Call:
    """One answer on its way through."""

    def __init__(self, to: Inward, watch: Watch) -> None:
        self._to = to
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[bool] = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._heard_at = self._loop.time()
        self._has_spoken = False

    def take(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        self._has_spoken = True
        self._to.write(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.end(is_whole=False)

    def end(self, *, is_whole: bool) -> None:
        if not self._done.done():
            self._done.set_result(is_whole)

    async def whole(self) -> bool:
        """Whether the answer came whole and the connection stays; raises `OSError` when none came at all."""
        while not self._done.done():
            left_s = self._heard_at + _SILENCE_S - self._loop.time()
            if left_s <= 0:
                break
            await asyncio.wait({self._done}, timeout=left_s)
        if not self._has_spoken:
            raise ConnectionError("The service hung up without an answer.")
        return self._done.done() and self._done.result()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._is_final:
            self._watch.on_head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        self._watch.on_body(body)

    def on_message_complete(self) -> None:
        if self._is_final:
            self.end(is_whole=self._parser.should_keep_alive())

    @property
    def _is_final(self) -> bool:
        return self._parser.get_status_code() >= _OK


class _Tunnel(asyncio.Protocol):
    """Waits for a proxy's word that the way is open."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # how the parser sees what follows: not its matter
        except httptools.HttpParserError:
            self._fail("The proxy does not speak HTTP.")

    def connection_lost(self, _: Exception | None) -> None:
        self._fail("The proxy hung up.")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != _OK:
            self._fail(f"The proxy refused with {status}.")
        elif not self.opened.done():
            self.opened.set_result(None)

    def _fail(self, why: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why))
