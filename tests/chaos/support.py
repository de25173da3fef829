from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
from redis.asyncio import Redis

from chaos.history import numbers_of
from chaos.stand import Stand
from scripted_model import script, tokens
from shared import redis_keys as keys

CHAT = "/v1/chat/completions"
HELD = tuple(name.encode() for name in (keys.queue(""), keys.lease(""), keys.job("")))


def counting(count: int, pace_ms: float) -> dict[str, Any]:
    """A request whose one right answer is so many tokens, whoever says them."""
    prompt = f"Count. {script(tokens(count, pace_ms=pace_ms, goes_on=True))}"
    return {"model": "agent", "messages": [{"role": "user", "content": prompt}]}


class Stream:
    """A client that reads a chat stream to its end."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        self.texts: list[str] = []
        self.error: dict[str, Any] | None = None
        self.has_ended = False
        self.run_id = ""
        self.longest_silence_s = 0.0
        self.task = asyncio.create_task(self._read(url, {**body, "stream": True}))

    @property
    def numbers(self) -> list[int]:
        return numbers_of("".join(self.texts))

    async def _read(self, url: str, body: dict[str, Any]) -> None:
        heard_at = time.monotonic()
        async with (
            httpx.AsyncClient(base_url=url, timeout=60) as http,
            http.stream("POST", CHAT, json=body) as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            self.run_id = answer.headers["x-backline-run-id"]
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    self.has_ended = True
                elif line.startswith("data: "):
                    now = time.monotonic()
                    self.longest_silence_s = max(self.longest_silence_s, now - heard_at)
                    heard_at = now
                    self._take(json.loads(line[6:]))

    def _take(self, chunk: dict[str, Any]) -> None:
        self.error = self.error or chunk.get("error")
        for choice in chunk.get("choices", ()):
            self.texts.append(choice["delta"].get("content") or "")


async def streams(stand: Stand, count: int, tokens_each: int, pace_ms: float) -> list[Stream]:
    """Open streams on all APIs in turn, each of which has begun to speak."""
    opened = [Stream(stand.urls[n % len(stand.urls)], counting(tokens_each, pace_ms)) for n in range(count)]
    await until(lambda: all(len(each.numbers) > 2 or each.task.done() for each in opened), 45)
    return opened


async def all_whole(opened: list[Stream], tokens_each: int, within_s: float = 45) -> None:
    """Every stream comes to its end, with every token once and in order."""
    async with asyncio.timeout(within_s):
        await asyncio.gather(*(each.task for each in opened))
    for each in opened:
        assert each.error is None
        assert each.numbers == list(range(tokens_each))
        assert each.has_ended


async def until(fact: Callable[[], Any], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not fact():
            await asyncio.sleep(0.02)


async def log_of(stand: Stand, run_id: str) -> list[dict[str, Any]]:
    """The run's own words, for it has ended."""
    async with httpx.AsyncClient(base_url=stand.urls[0], timeout=30) as http:
        answer = await http.get(f"/v1/runs/{run_id}/events", params={"format": "run"})
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


async def lapse(redis: Redis, run_id: str) -> None:
    """Let a run's lease lapse now and not in eight seconds."""
    await redis.delete(keys.lease(run_id))
    await redis.zadd(keys.queue("agent"), {run_id: 1}, xx=True)


async def assert_idle(stand: Stand) -> None:
    """Nothing holds a run any more, and no CLI is left."""
    left: list[str] = []

    async def is_idle() -> bool:
        async with stand.redis() as redis:
            names = [name async for name in redis.scan_iter() if name.startswith(HELD)]
            left[:] = [str(name) for name in names if not name.endswith((b":taken", b":paused"))]
        left.extend(str(process) for process in stand.agents_processes())
        return not left

    try:
        async with asyncio.timeout(20):
            while not await is_idle():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"left: {left}") from None
