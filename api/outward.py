"""Requests to where a client's URL leads, which is the internet and nowhere else.

A name is resolved here, each of its addresses is checked, and the connection goes to a checked address: no
second look-up could give another (DNS rebinding). The environment's proxies are not used, since a proxy would
resolve the name anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from shared.addresses import is_allowed

_CONNECT_S = 3.0
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "connection": "close", "user-agent": "backline"}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class OutwardError(Exception):
    """A URL leads nowhere, or not where it may; the message tells of no address."""


class Outward:
    """Sends requests; how long one may take is the caller's to bound.

    `with_private` lets URLs lead to loopback and private networks too; `most_at_once` bounds the names that
    are looked up at a time. `transport` and `resolve` (host and port to addresses; raises `OSError`) are
    replaced in tests.
    """

    def __init__(
        self,
        *,
        with_private: bool,
        most_at_once: int,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._with_private = with_private
        # A transport, not a client: it has no cookies, no redirects and no credentials of its own.
        self._transport = transport or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        # Threads of their own: names that never resolve would take those that Redis needs to be found.
        self._threads = ThreadPoolExecutor(most_at_once, "resolve")
        self._resolve = resolve or self._look_up

    async def send(
        self,
        url: httpx.URL,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """The answer up to its body, to be closed by the caller; raises `OutwardError`."""
        for address in await self.addresses(url):
            request = _pinned(url, address, method, headers or {}, content)
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.HTTPError as error:
                raise OutwardError("Its URL could not be fetched.") from error
        raise OutwardError("Its URL could not be reached.")

    async def addresses(self, url: httpx.URL) -> Sequence[str]:
        """All addresses of the host, each of them checked; raises `OutwardError`."""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(url.raw_host.decode("ascii"), port)
        except (OSError, ValueError):  # also a name that cannot be one
            addresses = ()
        if not addresses or not all(
            is_allowed(address, with_private=self._with_private) for address in addresses
        ):
            # One answer: who asks for a name inside does not learn whether it exists.
            raise OutwardError("Its URL's host has no public address.")
        return list(dict.fromkeys(addresses))

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


def parsed_url(text: str, base: httpx.URL | None = None) -> httpx.URL:
    """A plain http or https URL, without a user in it; raises `OutwardError`."""
    try:
        url = base.join(text) if base is not None else httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise OutwardError("It is not a URL.") from error
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise OutwardError("Its URL must be http or https all the way.")
    if url.port is not None and not 0 < url.port < 2**16:
        raise OutwardError("Its URL has no such port.")
    if url.userinfo:
        raise OutwardError("Its URL must not hold a user or a password.")
    return url


def _pinned(
    url: httpx.URL, address: str, method: str, headers: Mapping[str, str], content: bytes | None
) -> httpx.Request:
    """The request to an address, in the name of the host: for the server, and for its certificate."""
    return httpx.Request(
        method,
        url.copy_with(host=address),
        headers={"host": url.netloc.decode("ascii"), **_HEADERS, **headers},
        content=content,
        extensions={
            "sni_hostname": url.raw_host.decode("ascii"),
            "timeout": {"connect": _CONNECT_S},
        },
    )
