"""The HTTP proxy of one process: it opens the way to the hosts on the agent's list, and to no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from shared.settings import Settings
from worker.egress.dialer import Dialer, NotAllowedError, Streams, UnreachableError
from worker.egress.heads import BadHeadError, Wish, wish_of

MOST_HEAD = 32 * 1024
_MOST_CONNECTIONS = 64
_MOST_DIALLED = 8
"""Of them, those that are being opened: one agent's names that never resolve must not hold up others'."""
_MOST_TOLD = 50
"""Refusals that are logged of one process; what follows is only counted."""
_HEAD_S = 15.0
_IDLE_S = 300.0
_LAST_S = 15.0
_MOST_NAME = 253
_PIECE = 64 * 1024
_OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REASONS = {400: "Bad Request", 403: "Forbidden", 502: "Bad Gateway", 503: "Service Unavailable"}

_log = structlog.get_logger(__name__)


class _SpentError(Exception):
    """The process has moved all the bytes that it may."""


class Proxy:
    """Serves the connections of one process. `settings_of` gives what holds for its agent at the time."""

    def __init__(self, agent: str, dialer: Dialer, settings_of: Callable[[str], Settings]) -> None:
        self._agent = agent
        self._dialer = dialer
        self._settings_of = settings_of
        self._dialling = asyncio.Semaphore(_MOST_DIALLED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: set[tuple[str, int, str]] = set()
        self._opened = self._refused = self._moved = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end."""
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= _MOST_CONNECTIONS:
            writer.write(_refusal(503, "This process has too many connections."))
            writer.close()
            return
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
            await _shut(writer)
        except* (OSError, asyncio.CancelledError):  # one side hung up or fell silent, or the process ended
            writer.transport.abort()
        finally:
            self._tasks.discard(task)

    def close(self) -> None:
        """End all connections, and tell the log what they came to."""
        for task in self._tasks:
            task.cancel()
        if self._opened or self._refused:
            counts = {"connections": self._opened, "refused": self._refused, "bytes": self._moved}
            _log.info("egress_metered", agent=self._agent, **counts)
            self._opened = self._refused = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_S):
                wish = wish_of(await reader.readuntil(b"\r\n\r\n"))
        except BadHeadError as error:
            self._refuse(writer, 400, None, str(error))
            return
        except asyncio.LimitOverrunError:
            self._refuse(writer, 400, None, "The head of the request is too long.")
            return
        except asyncio.IncompleteReadError:
            return
        there = await self._dial(wish, writer)
        if there is None:
            return
        self._opened += 1
        (writer if wish.is_tunnel else there[1]).write(_OPENED if wish.is_tunnel else wish.head)
        try:
            await self._join((reader, writer), there)
            await _shut(there[1])
        except* _SpentError:
            self._note(wish, "the process has moved agent_transfer_bytes")
        finally:
            there[1].transport.abort()

    async def _dial(self, wish: Wish, writer: asyncio.StreamWriter) -> Streams | None:
        settings = self._settings_of(self._agent)
        if self._moved >= settings.agent_transfer_bytes:
            self._refuse(writer, 403, wish, "the process has moved agent_transfer_bytes")
            return None
        try:
            async with self._dialling:
                return await self._dialer.dial(wish.host, wish.port, settings)
        except NotAllowedError as error:
            self._refuse(writer, 403, wish, str(error))
        except UnreachableError as error:
            writer.write(_refusal(502, f"{wish.host}:{wish.port} cannot be reached: {error}."))
        return None

    async def _join(self, one: Streams, other: Streams) -> None:
        """Pass on what each says, until both have ended.

        Raises a group with `OSError` when one is gone, or `TimeoutError` when neither has said anything for
        `_IDLE_S`.
        """
        async with asyncio.timeout(_IDLE_S) as patience, asyncio.TaskGroup() as group:
            group.create_task(self._move(one[0], other[1], patience))
            group.create_task(self._move(other[0], one[1], patience))

    async def _move(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        patience: asyncio.Timeout,
    ) -> None:
        loop = asyncio.get_running_loop()
        most = self._settings_of(self._agent).agent_transfer_bytes
        while piece := await reader.read(_PIECE):
            self._moved += len(piece)
            if self._moved > most:
                raise _SpentError
            writer.write(piece)
            await writer.drain()
            patience.reschedule(loop.time() + _IDLE_S)
        if writer.can_write_eof():
            writer.write_eof()

    def _refuse(self, writer: asyncio.StreamWriter, status: int, wish: Wish | None, why: str) -> None:
        self._note(wish, why)
        writer.write(_refusal(status, why if wish is None else f"{wish.host}:{wish.port} is refused: {why}."))

    def _note(self, wish: Wish | None, why: str) -> None:
        """Say once of each host why it is refused."""
        self._refused += 1
        host, port = (wish.host[:_MOST_NAME], wish.port) if wish is not None else ("", 0)
        told = (host, port, why)
        if told not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(told)
            _log.warning("egress_refused", agent=self._agent, host=host, port=port, because=why)


async def _shut(writer: asyncio.StreamWriter) -> None:
    """Close it once what was written has been sent; raises `OSError` when that takes too long."""
    writer.close()
    async with asyncio.timeout(_LAST_S):
        await writer.wait_closed()


def _refusal(status: int, said: str) -> bytes:
    body = f"Backline: {said}\n".encode()
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\ncontent-type: text/plain; charset=utf-8\r\n"
    return f"{head}content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body
