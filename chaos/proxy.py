"""A TCP proxy in front of Redis that can fall silent, or cut, as a network does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

_CHUNK = 64 * 1024

Trouble = Literal["none", "stall", "cut"]


class FaultProxy:
    """Listens on loopback and passes bytes to a Unix socket; one for each process that is to be cut off.

    In a `stall` no byte passes, in either direction, and none is lost: what was sent arrives at its end, as
    over a network that lost packets for a while. In a `cut` connections are reset and new ones are too.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._passes = asyncio.Event()
        self._passes.set()
        self._is_cut = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where its process finds Redis."""
        return f"redis://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def trouble(self, kind: Trouble) -> None:
        """Begin a trouble, or end it with `none`."""
        self._is_cut = kind == "cut"
        if kind == "stall":
            self._passes.clear()
        else:
            self._passes.set()
        if self._is_cut:
            for writer in self._writers:
                writer.transport.abort()

    def lead_to(self, upstream: Path) -> None:
        """Connect to another server from now on, as an address that follows a fail-over does."""
        self._upstream = upstream

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        mine = [writer]
        self._writers.add(writer)
        try:
            if self._is_cut:
                return
            await self._passes.wait()
            there, back = await asyncio.open_unix_connection(str(self._upstream))
            mine.append(back)
            self._writers.add(back)
            ways = [asyncio.ensure_future(self._pass(*way)) for way in ((reader, back), (there, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except (OSError, asyncio.CancelledError):
            pass  # Redis is away, or the proxy ends: the connection ends too
        finally:
            for each in mine:
                self._writers.discard(each)
                each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._passes.wait()
                writer.write(data)
                await writer.drain()
