"""Clients of every manner: they stream, wait, break off, come back, cancel, and note what they see."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from chaos.history import Kind, Seen
from scripted_model import call, script, text, tokens, use_tool

_PATIENCE_S = 120.0
"""No answer and no error by then is a broken promise."""
_AGAIN_S = 0.3
_KINDS: tuple[Kind, ...] = ("stream", "resumed", "resumed", "whole", "background", "poll", "cancel", "leave")
_ENDED = {"completed", "failed", "cancelled", "incomplete"}


class Clients:
    """Asks one request after another of any API that answers; `seen` gathers what each saw."""

    def __init__(self, urls: list[str], rng: random.Random, clock: Callable[[], float], model: str) -> None:
        self._urls = urls
        self._rng = rng
        self._clock = clock
        self._model = model
        self._count = 0
        self.seen: list[Seen] = []

    async def ask_until(self, stop: asyncio.Event, pause_s: float) -> None:
        """Ask until `stop` is set; a request that was begun is seen to its end."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(_PATIENCE_S, connect=2.0)) as http:
            while not stop.is_set():
                await self.ask(http, self._rng.choice(_KINDS))
                await asyncio.sleep(pause_s * self._rng.random())

    async def ask(self, http: httpx.AsyncClient, kind: Kind) -> Seen:
        """Make one request and follow it to its end, within a bound."""
        self._count += 1
        seen = Seen(
            marker=f"chaos-{self._count}-{self._rng.getrandbits(32):08x}",
            kind=kind,
            tokens=self._rng.randint(10, 80),
            uses_tool=self._rng.random() < 0.3,
            began=self._clock(),
        )
        self.seen.append(seen)
        client = _Client(http, self._urls, self._rng, self._clock, seen, self._model)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await client.go()
        except TimeoutError:
            seen.outcome = "hung"
        seen.ended = self._clock()
        return seen


class _Client:
    def __init__(
        self,
        http: httpx.AsyncClient,
        urls: list[str],
        rng: random.Random,
        clock: Callable[[], float],
        seen: Seen,
        model: str,
    ) -> None:
        self._http = http
        self._urls = rng.sample(urls, len(urls))
        self._rng = rng
        self._clock = clock
        self._seen = seen
        self._model = model

    async def go(self) -> None:
        match self._seen.kind:
            case "stream" | "leave":
                await self._stream(continues=False)
            case "resumed":
                await self._stream(continues=True)
            case "whole":
                await self._whole()
            case "background" | "poll" | "cancel":
                await self._respond()

    def _prompt(self) -> str:
        pace_ms = self._rng.choice([5, 20, 60])
        count = call(tokens(self._seen.tokens, pace_ms=pace_ms, goes_on=True))
        if not self._seen.uses_tool:
            return f"{self._seen.marker} {script(count)}"
        # One write, so that what two processes append cannot mix.
        effect = use_tool("Bash", {"command": f"echo {self._seen.marker} >> effects.log"})
        return f"{self._seen.marker} {script(call(text('I do it.'), effect), count)}"

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-request-id": self._seen.marker}

    async def _stream(self, *, continues: bool) -> None:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": self._prompt()}],
            "stream": True,
        }
        if continues:
            body["backline"] = {"on_disconnect": "continue"}
        leave_at = self._rng.randint(0, self._seen.tokens) if self._seen.kind == "leave" else None
        break_at = self._rng.randint(0, 2 * self._seen.tokens) if continues else None
        answer = await self._send("POST", "/v1/chat/completions", body)
        if answer is None:
            return
        is_over = await self._read(answer, self._chat, leave_at if leave_at is not None else break_at)
        if is_over:
            return
        if leave_at is not None:
            self._seen.outcome = "left"
        elif continues and self._seen.run_id:
            await self._pick_up(self._chat, lambda: (f"/v1/runs/{self._seen.run_id}/events", "after"))
        else:
            self._seen.outcome = "broken"

    async def _pick_up(self, take: Callable[[str], bool], where: Callable[[], tuple[str, str]]) -> None:
        """Go on behind the last frame that came, on whichever API answers, until the end."""
        while True:
            path, name = where()
            params: dict[str, Any] = {"stream": "true"} if name == "starting_after" else {}
            if self._seen.ids:
                params[name] = self._seen.ids[-1]
            answer = await self._send("GET", path, params=params, is_retry=True)
            if answer is None:
                return
            self._seen.resumed += 1
            if await self._read(answer, take, None):
                return
            await asyncio.sleep(_AGAIN_S)

    async def _whole(self) -> None:
        body = {"model": self._model, "messages": [{"role": "user", "content": self._prompt()}]}
        answer = await self._send("POST", "/v1/chat/completions", body)
        if answer is None:
            return
        try:
            said = json.loads(await answer.aread())
        except (httpx.HTTPError, ValueError):
            self._seen.outcome = "broken"
            return
        finally:
            await answer.aclose()
        self._said(said["choices"][0]["message"]["content"] or "")
        self._seen.outcome = "completed"

    async def _respond(self) -> None:
        """A response in the background: streamed and picked up, polled, or cancelled."""
        is_streamed = self._seen.kind == "background"
        body = {"model": self._model, "input": self._prompt(), "background": True, "stream": is_streamed}
        answer = await self._send("POST", "/v1/responses", body)
        if answer is None:
            return
        if is_streamed:
            break_at = self._rng.randint(0, 2 * self._seen.tokens)
            if await self._read(answer, self._event, break_at):
                return
            if not self._seen.response_id:
                self._seen.outcome = "broken"
                return
            await self._pick_up(
                self._event, lambda: (f"/v1/responses/{self._seen.response_id}", "starting_after")
            )
            return
        try:
            self._seen.response_id = json.loads(await answer.aread())["id"]
        except (httpx.HTTPError, ValueError):
            self._seen.outcome = "broken"
            return
        finally:
            await answer.aclose()
        if self._seen.kind == "cancel":
            await asyncio.sleep(self._rng.random() * 3)
            await self._json("POST", f"/v1/responses/{self._seen.response_id}/cancel")
        await self._poll()

    async def _poll(self) -> None:
        while True:
            said = await self._json("GET", f"/v1/responses/{self._seen.response_id}")
            if said is None:
                return
            if said["status"] in _ENDED:
                for item in said["output"]:
                    for part in item.get("content") or ():
                        self._said(part.get("text", ""))
                self._seen.outcome = said["status"]
                self._seen.code = (said.get("error") or {}).get("code", "")
                return
            await asyncio.sleep(_AGAIN_S)

    async def _json(self, method: str, path: str) -> Any:
        """What an API says, over again while none can; `None` when it says no."""
        while True:
            answer = await self._send(method, path, is_retry=True)
            if answer is None:
                return None
            try:
                return json.loads(await answer.aread())
            except (httpx.HTTPError, ValueError):
                await asyncio.sleep(_AGAIN_S)
            finally:
                await answer.aclose()

    async def _send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: dict[str, Any] | None = None,
        is_retry: bool = False,
    ) -> httpx.Response | None:
        """Send to an API that can be reached, and give its answer if it is 200; else note what it was.

        What may be done again (`is_retry`) is, when a connection breaks or an API says 503.
        """
        while True:
            for url in list(self._urls):
                request = self._http.build_request(
                    method, url + path, json=body, params=params, headers=self._headers
                )
                try:
                    answer = await self._http.send(request, stream=True)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    self._urls.append(self._urls.pop(0))
                    continue
                except httpx.HTTPError:
                    if is_retry:
                        self._urls.append(self._urls.pop(0))
                        continue
                    self._seen.outcome = "broken"
                    return None
                self._seen.run_id = self._seen.run_id or answer.headers.get("x-backline-run-id", "")
                if answer.status_code == 200:
                    return answer
                if await self._is_final(answer, is_retry=is_retry):
                    return None
            if not is_retry:
                self._seen.outcome, self._seen.code = "refused", "unreachable"
                return None
            await asyncio.sleep(_AGAIN_S)

    async def _is_final(self, answer: httpx.Response, *, is_retry: bool) -> bool:
        """Note an answer that is not 200; whether it is the last word."""
        try:
            error = json.loads(await answer.aread())["error"]
        except (httpx.HTTPError, ValueError, KeyError):
            error = {}
        finally:
            await answer.aclose()
        may_retry = answer.headers.get("x-should-retry") != "false" and answer.status_code in {429, 503}
        if is_retry and may_retry:
            return False
        self._seen.code = str(error.get("code") or answer.status_code)
        is_refused = may_retry and not answer.headers.get("x-backline-run-id")
        self._seen.outcome = "refused" if is_refused else "failed"
        if self._seen.code == "run_cancelled":
            self._seen.outcome = "cancelled"
        return True

    async def _read(self, answer: httpx.Response, take: Callable[[str], bool], break_at: int | None) -> bool:
        """Read a stream to its end or until so many texts have come; whether the end was told."""
        try:
            async for frame_id, data in _frames(answer):
                is_over = take(data)
                if frame_id:
                    self._seen.ids.append(frame_id)
                if is_over:
                    return True
                if break_at is not None and len(self._seen.texts) >= break_at:
                    return False
        except httpx.HTTPError:
            return False
        finally:
            await answer.aclose()
        return False

    def _chat(self, data: str) -> bool:
        if data == "[DONE]":
            self._seen.outcome = "completed"
            return True
        chunk = json.loads(data)
        if "error" in chunk:
            self._seen.code = str(chunk["error"].get("code"))
            self._seen.outcome = "cancelled" if self._seen.code == "run_cancelled" else "failed"
            return True
        for choice in chunk["choices"]:
            self._said(choice["delta"].get("content") or "")
        return False

    def _event(self, data: str) -> bool:
        event = json.loads(data)
        match event["type"]:
            case "response.created":
                self._seen.response_id = event["response"]["id"]
            case "response.output_text.delta":
                self._said(event["delta"])
            case "response.completed":
                self._seen.outcome = "completed"
                return True
            case "response.failed" | "response.incomplete":
                self._seen.outcome = event["response"]["status"]
                self._seen.code = (event["response"].get("error") or {}).get("code", "")
                return True
            case "error":
                self._seen.outcome, self._seen.code = "failed", str(event.get("code"))
                return True
        return False

    def _said(self, words: str) -> None:
        if words:
            self._seen.texts.append(words)
            self._seen.arrived.append(self._clock())


async def _frames(answer: httpx.Response) -> AsyncIterator[tuple[str, str]]:
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
