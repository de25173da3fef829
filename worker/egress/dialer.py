"""Connections to hosts that are on a list, at addresses that were looked at.

A name is resolved here and all its addresses are checked; the connection goes to one of those, so that no
second look-up could give another (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from shared.addresses import is_allowed
from shared.hosts import is_listed
from shared.settings import Settings

_CONNECT_S = 10.0
_RESOLVE_S = 10.0
_LOOK_UPS = 32
_MOST_ADDRESSES = 4

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, int], Awaitable[Streams]]


class NotAllowedError(Exception):
    """The agent may not go there; the message says why."""


class UnreachableError(Exception):
    """It may go there, and nobody answers."""


class Dialer:
    """Opens connections for all agents of a worker. `aclose` ends its threads.

    `resolve` (host and port to addresses; raises `OSError`) and `connect` are replaced in tests.
    """

    def __init__(self, resolve: Resolve | None = None, connect: Connect | None = None) -> None:
        # Threads of their own: names that never resolve would take those that Redis needs to be found.
        self._threads = ThreadPoolExecutor(_LOOK_UPS, "resolve")
        self._resolve = resolve or self._look_up
        self._connect = connect or asyncio.open_connection

    async def dial(self, host: str, port: int, settings: Settings) -> Streams:
        """A connection to `host` as `settings` allow it to an agent.

        Raises `NotAllowedError` or `UnreachableError`.
        """
        host = host.lower().removesuffix(".")
        if settings.agent_network != "listed" or not is_listed(host, port, settings.agent_hosts):
            raise NotAllowedError("it is not among agent_hosts")
        with_private = is_listed(host, port, settings.agent_private_hosts)
        addresses = await self._addresses(host, port)
        if not all(is_allowed(address, with_private=with_private) for address in addresses):
            raise NotAllowedError("it has an address that is not public")
        for address in addresses[:_MOST_ADDRESSES]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await self._connect(address, port)
            except OSError:  # a time-out is one too
                continue
        raise UnreachableError("it does not answer")

    def close(self) -> None:
        """End the look-ups."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _addresses(self, host: str, port: int) -> list[str]:
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await self._resolve(host, port)
        except (OSError, ValueError) as error:
            raise UnreachableError("its name leads nowhere") from error
        if not found:
            raise UnreachableError("its name leads nowhere")
        return list(dict.fromkeys(found))

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]
