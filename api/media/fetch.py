"""Fetches what a client's URL names, and lets the URL lead nowhere but to the internet.

A name is resolved here, each of its addresses is checked, and the connection goes to a checked address: no
second look-up could give another (DNS rebinding). The environment's proxies are not used, since a proxy would
resolve the name anew.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from api.media.addresses import is_allowed
from api.media.sources import MediaError

_MOST_REDIRECTS = 3
_MOST_AT_ONCE = 32
_CONNECT_S = 3.0
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "connection": "close", "user-agent": "backline"}

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Fetcher:
    """Gets bytes by URL, at most so many at once; how long it may take is the caller's to bound.

    `with_private` lets URLs lead to loopback and private networks too. `transport` and `resolve` (host and
    port to addresses; raises `OSError`) are replaced in tests.
    """

    def __init__(
        self,
        *,
        with_private: bool,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._with_private = with_private
        # A transport, not a client: it has no cookies, no redirects and no credentials of its own.
        self._transport = transport or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )
        # Threads of their own: names that never resolve would take those that Redis needs to be found.
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE, "resolve")
        self._resolve = resolve or self._look_up
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def fetch(self, url: str, limit: int) -> bytes:
        """The body behind `url`, at most `limit` bytes; raises `MediaError`, which tells of no address."""
        async with self._places:
            return await self._follow(_parsed(url), limit)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self, url: httpx.URL, limit: int) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._send(url)
            try:
                location = response.headers.get("location", "")
                if response.status_code not in _REDIRECTS or not location:
                    return await _body(response, limit)
            finally:
                await response.aclose()
            url = _parsed(location, url)
        raise MediaError(f"Its URL leads through more than {_MOST_REDIRECTS} redirects.")

    async def _send(self, url: httpx.URL) -> httpx.Response:
        for address in await self._addresses(url):
            try:
                return await self._transport.handle_async_request(_pinned(url, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
            except httpx.HTTPError as error:
                raise MediaError("Its URL could not be fetched.") from error
        raise MediaError("Its URL could not be reached.")

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        """All addresses of the host, each of them checked."""
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(url.raw_host.decode("ascii"), port)
        except (OSError, ValueError):  # also a name that cannot be one
            addresses = ()
        if not addresses or not all(
            is_allowed(address, with_private=self._with_private) for address in addresses
        ):
            # One answer: who asks for a name inside does not learn whether it exists.
            raise MediaError("Its URL's host has no public address.")
        return list(dict.fromkeys(addresses))

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        return [str(address[0]) for *_, address in found]


def _parsed(text: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        url = base.join(text) if base is not None else httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise MediaError("It is not a URL.") from error
    if url.scheme not in {"http", "https"} or not url.raw_host:
        raise MediaError("Its URL must be http or https all the way.")
    if url.port is not None and not 0 < url.port < 2**16:
        raise MediaError("Its URL has no such port.")
    if url.userinfo:
        raise MediaError("Its URL must not hold a user or a password.")
    return url


def _pinned(url: httpx.URL, address: str) -> httpx.Request:
    """The request to an address, in the name of the host: for the server, and for its certificate."""
    return httpx.Request(
        "GET",
        url.copy_with(host=address),
        headers={"host": url.netloc.decode("ascii"), **_HEADERS},
        extensions={
            "sni_hostname": url.raw_host.decode("ascii"),
            "timeout": {"connect": _CONNECT_S},
        },
    )


async def _body(response: httpx.Response, limit: int) -> bytes:
    if response.status_code != 200:
        raise MediaError(f"Its URL answered with the status {response.status_code}.")
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise MediaError("Its URL answered with compressed content, although none was asked for.")
    data = bytearray()
    try:
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > limit:
                raise MediaError(f"It is larger than {limit} bytes.")
    except httpx.HTTPError as error:
        raise MediaError("Its URL broke off.") from error
    return bytes(data)
