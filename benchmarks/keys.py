"""What a key costs: its check and its limits, on a path on which all else stays the same.

The path is an answer from the cache: decoding, the key, the limits, the run's record and its events, and no
worker. The same Redis, worker and request serve an API without keys and one with; a second Redis, with an API
of its own, has many keys. The sides take turns, one request each.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import cycle, repeat

import msgspec

from benchmarks.figures import spread
from benchmarks.reply import BenchmarkError
from benchmarks.results import KeyCost
from benchmarks.stack import Stack, another_api, running_stack
from scripted_model import say
from shared.keys import Grant, KeyStore, Limits
from shared.redis import connect

_ANSWER_S = 30.0
_WARM_UP = 30
_TENANT = "default"
_MOST = 10**9
_LIMITS = Limits(
    requests_per_minute=_MOST,
    tokens_per_minute=_MOST,
    requests_per_day=_MOST,
    tokens_per_day=_MOST,
    requests_per_month=_MOST,
    concurrent_runs=_MOST,
    queued_runs=_MOST,
    usd_per_day=float(_MOST),
    usd_per_month=float(_MOST),
)
"""All of them, and none is ever met."""
_AT_ONCE = 200


async def measure(requests: int, *, keys: int) -> KeyCost:
    """Ask each side `requests` times: without keys, with one, with one of `keys`, with another each time."""
    async with AsyncExitStack() as scope:
        few = await scope.enter_async_context(running_stack(slots=1, auth="off"))
        many = await scope.enter_async_context(running_stack(slots=1, auth="on"))
        port = await scope.enter_async_context(another_api(few, auth="on"))
        (only,) = await _make_keys(few, 1)
        secrets = await _make_keys(many, keys)
        random.shuffle(secrets)
        callers = {
            "without": await Caller.open(scope, few, few.port, repeat("")),
            "one": await Caller.open(scope, few, port, repeat(only)),
            "many": await Caller.open(scope, many, many.port, repeat(secrets[0])),
            "others": await Caller.open(scope, many, many.port, cycle(secrets[1:])),
        }
        await _until_cached(callers["without"])
        await _until_cached(callers["many"])
        took_ms: dict[str, list[float]] = {name: [] for name in callers}
        order = list(callers)
        for number in range(_WARM_UP + requests):
            for name in order:
                took = await callers[name].ask()
                if number >= _WARM_UP:
                    took_ms[name].append(took)
            order.append(order.pop(0))
    return KeyCost(keys=keys, **{f"{name}_ms": spread(each) for name, each in took_ms.items()})


class Caller:
    """Asks one API on one connection that stays open, with one secret after another."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, agent: str, secrets: Iterator[str]
    ) -> None:
        self._reader, self._writer, self._secrets = reader, writer, secrets
        self._body = msgspec.json.encode(
            {
                "model": agent,
                "backline": {"cache": True},
                "messages": [{"role": "user", "content": str(say("Yes."))}],
            }
        )

    @classmethod
    async def open(cls, scope: AsyncExitStack, stack: Stack, port: int, secrets: Iterator[str]) -> Caller:
        """Connect; `scope` hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        scope.callback(writer.close)
        return cls(reader, writer, stack.agent.name, secrets)

    async def ask(self, *, is_hit: bool = True) -> float:
        """Milliseconds to the end of an answer; raises `BenchmarkError` for another than a kept one."""
        secret = next(self._secrets)
        shown = f"authorization: Bearer {secret}\r\n" if secret else ""
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"{shown}content-length: {len(self._body)}\r\n\r\n"
        )
        began_ns = time.monotonic_ns()
        self._writer.write(head.encode() + self._body)
        async with asyncio.timeout(_ANSWER_S):
            told = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            size = int(told.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await self._reader.readexactly(size)
        took_ns = time.monotonic_ns() - began_ns
        if b" 200 " not in told[:20] or (is_hit and b"x-backline-cache: hit" not in told):
            raise BenchmarkError(f"An answer did not come from the cache: {told!r} {body[:300]!r}")
        return took_ns / 1e6


async def _until_cached(caller: Caller) -> None:
    """Have the answer made once, and wait until it is kept."""
    await caller.ask(is_hit=False)
    for _ in range(100):
        try:
            await caller.ask()
        except BenchmarkError:
            await asyncio.sleep(0.1)
        else:
            return
    raise BenchmarkError("An answer was not kept.")


async def _make_keys(stack: Stack, count: int) -> list[str]:
    redis = connect(str(stack.settings.redis_url))
    grant = Grant(tenant=_TENANT, limits=_LIMITS)
    secrets: list[str] = []
    try:
        store = KeyStore(redis)
        while len(secrets) < count:
            some = range(min(_AT_ONCE, count - len(secrets)))
            made: Sequence[tuple[object, str]] = await asyncio.gather(*(store.create(grant) for _ in some))
            secrets += [secret for _, secret in made]
    finally:
        await redis.aclose()
    return secrets
