"""How a client of chaos reaches any API that answers, and what it makes of a refusal."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import httpx
import msgspec

from chaos.history import Seen

AGAIN_S = 0.3


class Tenant(msgspec.Struct, frozen=True):
    """Who asks: a name, and the secret that opens what is its own. Without one nobody is asked for any."""

    name: str = ""
    secret: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What a request of this tenant carries."""
        return {"authorization": f"Bearer {self.secret}"} if self.secret else {}


class Reach:
    """Sends the requests of one client, and notes in `seen` what came of them."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        urls: list[str],
        rng: random.Random,
        clock: Callable[[], float],
        seen: Seen,
        tenant: Tenant,
    ) -> None:
        self.rng = rng
        self.clock = clock
        self.seen = seen
        self._http = http
        self._urls = rng.sample(urls, len(urls))
        self._headers = {"x-request-id": seen.marker, **tenant.headers}

    def turn_away(self) -> None:
        """Ask another API from now on."""
        self._urls.append(self._urls.pop(0))

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        is_retry: bool = False,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response | None:
        """Send to an API that can be reached, and give its answer if it is 200; else note what it was.

        What may be done again (`is_retry`) is, when a connection breaks or an API says 503.
        """
        sent = {**self._headers, **(headers or {})}
        while True:
            for url in list(self._urls):
                request = self._http.build_request(method, url + path, json=body, headers=sent, **more)
                try:
                    answer = await self._http.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    self.turn_away()
                    continue
                except httpx.HTTPError:
                    if is_retry:
                        self.turn_away()
                        continue
                    self.seen.outcome = "broken"
                    return None
                self.seen.run_id = self.seen.run_id or answer.headers.get("x-backline-run-id", "")
                if answer.status_code == 200:
                    return answer
                if await self._is_final(answer, is_retry=is_retry):
                    return None
            if not is_retry:
                self.seen.outcome, self.seen.code = "refused", "unreachable"
                return None
            await asyncio.sleep(AGAIN_S)

    async def json(self, method: str, path: str, **more: Any) -> Any:
        """What an API says, over again while none can; `None` when it says no."""
        while True:
            answer = await self.send(method, path, is_retry=True, **more)
            if answer is None:
                return None
            said = await body_of(answer)
            if said is not None:
                return said
            await asyncio.sleep(AGAIN_S)

    async def once(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """What an API says to what must not be said twice; `None` when it says no, or nothing any more."""
        answer = await self.send(method, path, body, **more)
        if answer is None:
            return None
        said = await body_of(answer)
        if said is None:
            self.seen.outcome = "broken"
        return said

    def said(self, words: str) -> None:
        """Note words of the answer."""
        if words:
            self.seen.texts.append(words)
            self.seen.arrived.append(self.clock())

    async def _is_final(self, answer: httpx.Response, *, is_retry: bool) -> bool:
        """Note an answer that is not 200; whether it is the last word."""
        error = ((await body_of(answer)) or {}).get("error") or {}
        may_retry = answer.headers.get("x-should-retry") != "false" and answer.status_code in {429, 500, 503}
        if is_retry and may_retry:
            return False
        self.seen.code = str(error.get("code") or answer.status_code)
        is_refused = may_retry and not answer.headers.get("x-backline-run-id")
        self.seen.outcome = "refused" if is_refused else "failed"
        if self.seen.code == "run_cancelled":
            self.seen.outcome = "cancelled"
        return True


async def body_of(answer: httpx.Response) -> Any:
    """The JSON of an answer, which is closed; `None` when it breaks off."""
    try:
        return json.loads(await answer.aread())
    except (httpx.HTTPError, ValueError):
        return None
    finally:
        await answer.aclose()


async def frames_of(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
    """The id, if there is one, and the data of each frame."""
    frame_id = data = ""
    async for line in answer.aiter_lines():
        if line.startswith("id: "):
            frame_id = line[4:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line:
            if data:
                yield frame_id, data
            frame_id = data = ""


def clock_from_now() -> Callable[[], float]:
    """Seconds since this call."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
