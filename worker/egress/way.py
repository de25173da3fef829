"""One process's way out of a network of its own: a listening socket in there, and who serves it out here."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import structlog

from worker.claude.launch import Launch
from worker.egress.listening import PORT
from worker.egress.proxy import MOST_HEAD, Proxy

_URL = f"http://127.0.0.1:{PORT}"
_NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_NOT_BY_PROXY = ("NO_PROXY", "no_proxy")
_LOOPBACK = "127.0.0.1,localhost,::1"

_log = structlog.get_logger(__name__)


class Way:
    """Opened before its process starts, begun when it has, and closed when it has ended."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._ours, self._theirs = socket.socketpair()
        self._task: asyncio.Task[None] | None = None

    def open_for(self, launch: Launch) -> Launch:
        """The same launch, with this as its way out."""
        env = {**launch.env, **dict.fromkeys(_NAMES, _URL), **dict.fromkeys(_NOT_BY_PROXY, _LOOPBACK)}
        return msgspec.structs.replace(launch, env=env, exit=self._theirs.fileno())

    def begin(self) -> None:
        """Serve it: the process has been started, and has its end."""
        self._theirs.close()
        self._task = asyncio.get_running_loop().create_task(self._serve())
        self._task.add_done_callback(lambda _: self._ours.close())

    def close(self) -> None:
        """End it. Safe to call twice."""
        self._proxy.close()
        self._theirs.close()
        if self._task is None:
            self._ours.close()
        else:
            self._task.cancel()

    async def _serve(self) -> None:
        try:
            listening = await self._handed_over()
        except OSError as error:  # the process says by itself that it did not start
            _log.warning("egress_not_opened", because=str(error))
            return
        server = await asyncio.start_server(self._proxy.serve, sock=listening, limit=MOST_HEAD)
        try:
            await server.serve_forever()
        finally:
            server.close()

    async def _handed_over(self) -> socket.socket:
        """The socket that listens inside; raises `OSError` when none came."""
        loop = asyncio.get_running_loop()
        has_come = asyncio.Event()
        self._ours.setblocking(False)
        loop.add_reader(self._ours, has_come.set)
        try:
            await has_come.wait()
        finally:
            loop.remove_reader(self._ours)
        _, descriptors, *_ = socket.recv_fds(self._ours, 1, 1)
        if not descriptors:
            raise OSError("The sandbox ended before it listened.")
        return socket.socket(fileno=descriptors[0])
