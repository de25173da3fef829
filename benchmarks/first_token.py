"""Time to the first text and to the end of a short reply, from a cold process."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.bare import Bare
from benchmarks.figures import spread
from benchmarks.gateway import Gateway
from benchmarks.reply import Reply
from benchmarks.results import FirstToken, Wait
from benchmarks.side import Side
from benchmarks.stack import Stack
from scripted_model import say


async def measure(stack: Stack, *, requests: int) -> FirstToken:
    """Ask both sides in turns, one request at a time, after one each that does not count."""
    bare, gateway = Bare(stack, 1), Gateway(stack)
    replies: dict[Side, list[Reply]] = {bare: [], gateway: []}
    prompt = str(say("Yes."))
    for _ in range(1 + requests):
        for side, seen in replies.items():
            reply = Reply()
            await side.ask(prompt, reply)
            await side.quiet()
            seen.append(reply)
    return FirstToken(bare=wait_of(replies[bare][1:]), gateway=wait_of(replies[gateway][1:]))


def wait_of(replies: Sequence[Reply]) -> Wait:
    """Sum up what it took to answer."""
    return Wait(
        first_ms=spread([reply.first_ms for reply in replies]),
        total_ms=spread([reply.total_ms for reply in replies]),
    )
