"""Requests per second for a one-token reply."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from benchmarks.bare import Bare
from benchmarks.gateway import Gateway
from benchmarks.reply import Reply
from benchmarks.results import Throughput
from benchmarks.side import Side
from benchmarks.stack import Stack
from scripted_model import say


async def measure(stack: Stack, concurrency: int, count: int, *, rounds: int) -> Throughput:
    """Send `count` requests a side and round by so many clients, the sides in turns."""
    slots = stack.settings.slots
    bare, gateway = Bare(stack, slots), Gateway(stack)
    took_s: dict[Side, float] = {bare: 0.0, gateway: 0.0}
    for _ in range(rounds):
        for side in took_s:
            took_s[side] += await burst(side, concurrency, count)
            await side.quiet()
    total = rounds * count
    return Throughput(
        concurrency=concurrency,
        slots=slots,
        requests=total,
        bare_per_s=total / took_s[bare],
        gateway_per_s=total / took_s[gateway],
    )


async def burst(side: Side, concurrency: int, count: int) -> float:
    """Seconds from the first request to the last end of `count` replies."""
    replies = [Reply() for _ in range(count)]
    waiting = iter(replies)
    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(_client(side, waiting))
    began_ns = min(reply.began_ns for reply in replies)
    return (max(reply.ended_ns for reply in replies) - began_ns) / 1e9


async def _client(side: Side, waiting: Iterator[Reply]) -> None:
    prompt = str(say("Yes."))
    for reply in waiting:
        await side.ask(prompt, reply)
