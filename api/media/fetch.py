"""Fetches what a client's URL names; `api/outward.py` sees to it that the URL leads nowhere inside."""

from __future__ import annotations

import asyncio

import httpx

from api.media.sources import MediaError
from api.outward import Outward, OutwardError, Resolve, parsed_url

_MOST_REDIRECTS = 3
_MOST_AT_ONCE = 32
_REDIRECTS = {301, 302, 303, 307, 308}


class Fetcher:
    """Gets bytes by URL, at most so many at once; how long it may take is the caller's to bound.

    The arguments are those of `Outward`.
    """

    def __init__(
        self,
        *,
        with_private: bool,
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve | None = None,
    ) -> None:
        self._outward = Outward(
            with_private=with_private, most_at_once=_MOST_AT_ONCE, transport=transport, resolve=resolve
        )
        self._places = asyncio.Semaphore(_MOST_AT_ONCE)

    async def fetch(self, url: str, limit: int) -> bytes:
        """The body behind `url`, at most `limit` bytes; raises `MediaError`, which tells of no address."""
        async with self._places:
            try:
                return await self._follow(parsed_url(url), limit)
            except OutwardError as error:
                raise MediaError(str(error)) from error

    async def aclose(self) -> None:
        """Close what is open."""
        await self._outward.aclose()

    async def _follow(self, url: httpx.URL, limit: int) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._outward.send(url)
            try:
                location = response.headers.get("location", "")
                if response.status_code not in _REDIRECTS or not location:
                    return await _body(response, limit)
            finally:
                await response.aclose()
            url = parsed_url(location, url)
        raise MediaError(f"Its URL leads through more than {_MOST_REDIRECTS} redirects.")


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
