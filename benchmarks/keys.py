"""What a key costs: its check and its limits, on a path on which all else stays the same.

The path is an answer from the cache: decoding, the key, the limits, the run's record and its events, and no
worker. Each side has an API and a Redis of its own, so that all are alike but for their keys. The sides take
turns, one request each.
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
from benchmarks.results import Asked, KeyCost
from benchmarks.side import cpu_s
from benchmarks.stack import Stack, running_stack
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
    """Ask `requests` times without keys, with the only key, and with one of `keys`; then with all of them."""
    async with AsyncExitStack() as scope:
        bare = await scope.enter_async_context(running_stack(slots=1, auth="off"))
        few = await scope.enter_async_context(running_stack(slots=1, auth="on"))
        many = await scope.enter_async_context(running_stack(slots=1, auth="on"))
        (only,) = await _make_keys(few, 1)
        secrets = await _make_keys(many, keys)
        sides = {"without": (bare, ""), "one": (few, only), "many": (many, secrets[0])}
        for stack, secret in sides.values():
            await until_cached(await Caller.open(scope, stack, repeat(secret)))
        asked = await _in_turns(
            # opened at last: an API hangs up on connections that rest
            {
                name: await Caller.open(scope, stack, repeat(secret))
                for name, (stack, secret) in sides.items()
            },
            requests,
        )
        random.shuffle(secrets)
        asked |= await _in_turns({"others": await Caller.open(scope, many, cycle(secrets))}, requests)
    costs = {name: Asked(*(spread(each) for each in zip(*seen, strict=True))) for name, seen in asked.items()}
    return KeyCost(
        keys=keys,
        added_ms=_between(asked["without"], asked["one"]),
        added_by_many_ms=_between(asked["one"], asked["many"]),
        **costs,
    )


async def _in_turns(callers: dict[str, Caller], requests: int) -> dict[str, list[tuple[float, float]]]:
    asked: dict[str, list[tuple[float, float]]] = {name: [] for name in callers}
    order = list(callers)
    for number in range(_WARM_UP + requests):
        for name in order:
            took = await callers[name].ask()
            if number >= _WARM_UP:
                asked[name].append(took)
        random.shuffle(order)  # whoever comes behind the same one each time has its warmth
    return asked


def _between(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float:
    """The median of what the second of each pair took more than the first, in ms."""
    return spread([b - a for (a, _), (b, _) in zip(one, other, strict=True)]).p50


class Caller:
    """Asks one API on one connection that stays open, with one secret after another."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stack: Stack, secrets: Iterator[str]
    ) -> None:
        self._reader, self._writer, self._secrets = reader, writer, secrets
        self._processes = (stack.api, stack.redis)
        self._body = msgspec.json.encode(
            {
                "model": stack.agent.name,
                "backline": {"cache": True},
                "messages": [{"role": "user", "content": str(say("Yes."))}],
            }
        )

    @classmethod
    async def open(cls, scope: AsyncExitStack, stack: Stack, secrets: Iterator[str]) -> Caller:
        """Connect; `scope` hangs up."""
        reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
        scope.callback(writer.close)
        return cls(reader, writer, stack, secrets)

    async def ask(self, *, is_hit: bool = True) -> tuple[float, float]:
        """Milliseconds to the end of an answer, and those of CPU that API and Redis spent meanwhile.

        Raises `BenchmarkError` for another answer than a kept one.
        """
        secret = next(self._secrets)
        shown = f"authorization: Bearer {secret}\r\n" if secret else ""
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"{shown}content-length: {len(self._body)}\r\n\r\n"
        )
        spent_s, began_ns = cpu_s(self._processes), time.monotonic_ns()
        self._writer.write(head.encode() + self._body)
        async with asyncio.timeout(_ANSWER_S):
            told = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            size = int(told.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            body = await self._reader.readexactly(size)
        took_ns = time.monotonic_ns() - began_ns
        spent_s = cpu_s(self._processes) - spent_s
        if b" 200 " not in told[:20] or (is_hit and b"x-backline-cache: hit" not in told):
            raise BenchmarkError(f"An answer did not come from the cache: {told!r} {body[:300]!r}")
        return took_ns / 1e6, spent_s * 1e3


async def until_cached(caller: Caller) -> None:
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
