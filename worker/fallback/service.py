"""A fallback over HTTP: one streaming request, its events as they come, and why it failed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import httpx
import msgspec
from httpx_sse import EventSource, SSEError

from shared.fallbacks import Fallback
from shared.runs import RunRequest
from worker.fallback.asking import body_of

_CONNECT_S = 10.0
_MOST_BYTES = 64 * 1024 * 1024
"""Of one answer, as it comes over the wire."""
_UNAVAILABLE = frozenset({401, 402, 403, 408, 429})
"""Beside 5xx: what says that the service is out of reach, rather than that it does not like the request."""
_DONE = "[DONE]"


class ServiceError(Exception):
    """A fallback failed; the message is short and names no address. `is_down` says that others would too."""

    def __init__(self, message: str, *, is_down: bool = True) -> None:
        super().__init__(message)
        self.is_down = is_down


class Services:
    """The HTTP client for all fallbacks; `aclose` ends its connections."""

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(transport=transport)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._http.aclose()

    @asynccontextmanager
    async def stream(self, fallback: Fallback, request: RunRequest) -> AsyncIterator[AsyncIterator[str]]:
        """Ask; gives the data of the events. Raises `ServiceError`, from within the body too."""
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        if fallback.key:
            headers["authorization"] = f"Bearer {fallback.key}"
        silence_s = fallback.timeout_s
        asked = self._http.stream(
            "POST",
            fallback.url.rstrip("/") + "/chat/completions",
            headers=headers,
            content=msgspec.json.encode(body_of(request, fallback)),
            timeout=httpx.Timeout(silence_s, connect=min(_CONNECT_S, silence_s)),
        )
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(asked)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise ServiceError(type(error).__name__) from error
            if response.status_code != 200:
                status = response.status_code
                raise ServiceError(f"HTTP {status}", is_down=status >= 500 or status in _UNAVAILABLE)
            response.stream = _Bounded(response.stream)
            yield await stack.enter_async_context(aclosing(_data(response)))


async def _data(response: httpx.Response) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(EventSource(response).aiter_sse()) as events:
            async for event in events:
                if event.data == _DONE:
                    return
                if event.data:
                    yield event.data
    except SSEError as error:
        raise ServiceError("no event stream") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise ServiceError(type(error).__name__) from error


class _Bounded(httpx.AsyncByteStream):
    """A body that may not go on for ever."""

    def __init__(self, inner: httpx.AsyncByteStream | httpx.SyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for piece in self._inner:  # type: ignore[union-attr]
            size += len(piece)
            if size > _MOST_BYTES:
                raise ServiceError("an answer without end")
            yield piece

    async def aclose(self) -> None:
        await self._inner.aclose()  # type: ignore[union-attr]
