"""Delay and CPU per token while so many streams run at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from benchmarks.bare import Bare
from benchmarks.figures import spread
from benchmarks.gateway import Gateway
from benchmarks.reply import BenchmarkError, Reply
from benchmarks.results import Cpu, Streaming, Streams
from benchmarks.side import Side
from benchmarks.stack import Stack
from scripted_model import script, tokens

PACE_MS = 20.0
_WARM_UP_TOKENS = 20
"""Start-up must not count: all streams have had so many tokens before the window opens."""
_WARM_UP_S = 60.0
_ENDLESS = 100_000
_POLL_S = 0.05
_SETTLE_S = 0.3


async def measure(stack: Stack, count: int, *, rounds: int, window_s: float) -> Streams:
    """Look at `count` streams for `rounds` windows a side, in turns, each `window_s` seconds long."""
    sides: tuple[Side, Side] = (Bare(stack, count), Gateway(stack))
    windows: tuple[_Windows, _Windows] = (_Windows(), _Windows())
    for _ in range(rounds):
        for side, seen in zip(sides, windows, strict=True):
            await seen.add(side, count, window_s)
    bare, gateway = windows
    return Streams(streams=count, bare=bare.sum(), gateway=gateway.sum())


class _Windows:
    """What was seen of one side through all its windows."""

    def __init__(self) -> None:
        self._delays_ms: list[float] = []
        self._cpu = Cpu()

    async def add(self, side: Side, count: int, window_s: float) -> None:
        """Stream, and once all streams are in their stride look on for `window_s` seconds."""
        prompt = str(script(tokens(_ENDLESS, pace_ms=PACE_MS, stamp=True)))
        replies = [Reply() for _ in range(count)]
        asking = [asyncio.create_task(side.ask(prompt, reply)) for reply in replies]
        try:
            await _all_in_stride(replies, asking)
            before, opened_ns = side.cpu(), time.monotonic_ns()
            await asyncio.sleep(window_s)
            after, closed_ns = side.cpu(), time.monotonic_ns()
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await side.quiet()
        await asyncio.sleep(_SETTLE_S)
        delays_ms = [
            (received - sent) / 1e6
            for reply in replies
            for sent, received in reply.stamps
            if opened_ns <= received < closed_ns
        ]
        self._delays_ms += delays_ms
        self._cpu += _between(before, after, len(delays_ms))

    def sum(self) -> Streaming:
        return Streaming(delay_ms=spread(self._delays_ms), cpu=self._cpu)


async def _all_in_stride(replies: Sequence[Reply], asking: Sequence[asyncio.Task[None]]) -> None:
    try:
        async with asyncio.timeout(_WARM_UP_S):
            while any(len(reply.stamps) < _WARM_UP_TOKENS for reply in replies):
                await asyncio.sleep(_POLL_S)
                for task in asking:
                    if task.done():
                        task.result()
    except TimeoutError as error:
        raise BenchmarkError(f"{len(replies)} streams did not start in {_WARM_UP_S:g} s.") from error


def _between(before: Cpu, after: Cpu, count: int) -> Cpu:
    names = [name for name in Cpu.__struct_fields__ if name != "tokens"]
    return Cpu(tokens=count, **{name: getattr(after, name) - getattr(before, name) for name in names})
