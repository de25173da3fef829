"""What a batch costs those who wait, how fast its lines are done, and what waiting lines weigh in Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from benchmarks.bare import Bare
from benchmarks.figures import Spread, spread
from benchmarks.gateway import Gateway
from benchmarks.reply import BenchmarkError, Reply
from benchmarks.results import BatchRate, BesideBatch
from benchmarks.stack import Stack
from benchmarks.throughput import burst
from scripted_model import Script, say, script, stall, text
from shared.redis import connect

_ENDPOINT = "/v1/chat/completions"
_OVER = {"completed", "failed", "expired", "cancelled"}
_SHORTEST_S, _LONGEST_S = 4, 12
"""How long the model takes for a line: as long as a real one does, so that lines rather wait than compute."""
_LIMIT_S = 120.0
_POLL_S = 0.05
_PAUSE_S = 0.5
"""Between requests, so that they meet a batch at different times of its lines."""

_T = TypeVar("_T")


class _File(msgspec.Struct):
    id: str


class _Counts(msgspec.Struct):
    completed: int


class _Batch(msgspec.Struct):
    id: str
    status: str
    request_counts: _Counts


async def measure_beside(stack: Stack, *, lines: int, requests: int) -> BesideBatch:
    """Ask `requests` times an idle system, then as often one that has a batch of so many `lines`."""
    gateway = Gateway(stack)
    await _ask(gateway, 1)
    await gateway.quiet()
    idle_ms = await _ask(gateway, requests)
    await gateway.quiet()
    body = _lines(stack, lines, _slow)
    async with _client(stack) as http:
        file_id = await _upload(http, body)
        before = await _redis_bytes(stack)
        batch = await _begin(http, file_id)
        batch = await _until(http, batch, lambda batch: batch.request_counts.completed >= batch_slots(stack))
        waiting = lines - batch.request_counts.completed
        used = await _redis_bytes(stack) - before
        beside_ms = await _ask(gateway, requests)
        await _ok(http.post(f"/v1/batches/{batch.id}/cancel"), _Batch)
        await _until(http, batch, lambda batch: batch.status in _OVER)
    await gateway.quiet()
    return BesideBatch(
        lines=lines,
        idle_ms=idle_ms,
        beside_ms=beside_ms,
        line_bytes=len(body) / lines,
        redis_bytes=used / waiting,
    )


async def measure_rate(stack: Stack, count: int, *, rounds: int) -> BatchRate:
    """Have `count` one-word replies made a side and round: by CLIs of our own, and as lines of a batch."""
    slots = batch_slots(stack)
    bare, gateway = Bare(stack, slots), Gateway(stack)
    bare_s = batch_s = 0.0
    async with _client(stack) as http:
        file_id = await _upload(http, _lines(stack, count, _quick))
        for _ in range(rounds):
            bare_s += await burst(bare, slots, count)
            began = time.monotonic()
            batch = await _until(http, await _begin(http, file_id), lambda batch: batch.status in _OVER)
            batch_s += time.monotonic() - began
            if batch.request_counts.completed != count:
                raise BenchmarkError(f"A batch did not have all its lines answered: {batch}.")
            await gateway.quiet()
    total = rounds * count
    return BatchRate(lines=total, slots=slots, bare_per_s=total / bare_s, batch_per_s=total / batch_s)


def batch_slots(stack: Stack) -> int:
    """What lines may take of the worker's slots, by its defaults."""
    return max(1, stack.settings.slots * 3 // 4)


async def _ask(gateway: Gateway, requests: int) -> Spread:
    replies = [Reply() for _ in range(requests)]
    for reply in replies:
        await gateway.ask(str(say("Yes.")), reply)
        await asyncio.sleep(_PAUSE_S)
    return spread([reply.first_ms for reply in replies])


def _slow(number: int) -> Script:
    seconds = _SHORTEST_S + number % (_LONGEST_S - _SHORTEST_S + 1)
    return script(stall(seconds), text("Yes."))


def _quick(_: int) -> Script:
    return say("Yes.")


def _lines(stack: Stack, count: int, reply: Callable[[int], Script]) -> bytes:
    return b"".join(_line(stack, number, str(reply(number))) for number in range(count))


def _line(stack: Stack, number: int, prompt: str) -> bytes:
    body = {"model": stack.agent.name, "messages": [{"role": "user", "content": prompt}]}
    line = {"custom_id": f"{number}", "method": "POST", "url": _ENDPOINT, "body": body}
    return msgspec.json.encode(line) + b"\n"


def _client(stack: Stack) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{stack.port}", timeout=_LIMIT_S)


async def _ok(asking: Awaitable[httpx.Response], kind: type[_T]) -> _T:
    answer = await asking
    if answer.status_code != 200:
        raise BenchmarkError(f"{answer.url} answered with HTTP {answer.status_code}: {answer.text[:300]}")
    return msgspec.json.decode(answer.content, type=kind)


async def _upload(http: httpx.AsyncClient, body: bytes) -> str:
    form = {"purpose": "batch"}
    return (await _ok(http.post("/v1/files", data=form, files={"file": ("in.jsonl", body)}), _File)).id


async def _begin(http: httpx.AsyncClient, file_id: str) -> _Batch:
    wanted = {"input_file_id": file_id, "endpoint": _ENDPOINT, "completion_window": "24h"}
    return await _ok(http.post("/v1/batches", json=wanted), _Batch)


async def _until(http: httpx.AsyncClient, batch: _Batch, fact: Callable[[_Batch], bool]) -> _Batch:
    try:
        async with asyncio.timeout(_LIMIT_S):
            while not fact(batch):
                await asyncio.sleep(_POLL_S)
                batch = await _ok(http.get(f"/v1/batches/{batch.id}"), _Batch)
    except TimeoutError as error:
        raise BenchmarkError(f"A batch did not go on: {batch}.") from error
    return batch


async def _redis_bytes(stack: Stack) -> int:
    async with _redis(stack) as redis:
        return int((await redis.info("memory"))["used_memory"])


@asynccontextmanager
async def _redis(stack: Stack) -> AsyncIterator[Any]:
    redis = connect(str(stack.settings.redis_url))
    try:
        yield redis
    finally:
        await redis.aclose()
