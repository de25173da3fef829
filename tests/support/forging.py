"""Runs put into Redis by hand, as who can write there could: past the API, for any tenant."""

from __future__ import annotations

import asyncio

from shared import redis_keys as keys
from shared.content import TextPart
from shared.redis import connect
from shared.run_events import TERMINAL_STATES, RunEvent, decode_event
from shared.run_store import RunStore
from shared.runs import RunRequest, new_run_id
from tests.support.stack import Stack

_END_S = 60.0


def asked(*words: object, agent: str = "agent", **fields: object) -> RunRequest:
    """A request that says `words`."""
    prompt = (TextPart(" ".join(str(word) for word in words)),)
    return RunRequest(agent=agent, prompt=prompt, **fields)  # type: ignore[arg-type]


async def run(stack: Stack, request: RunRequest) -> list[RunEvent]:
    """Queue a request and give all its events, once the last one is there."""
    redis = connect(stack.redis_url)
    run_id = new_run_id()
    try:
        await RunStore(redis, retention_s=600).submit(run_id, request, queue_limit=100, ttl_s=600)
        async with asyncio.timeout(_END_S):
            while True:
                entries = await redis.xrange(keys.events(run_id))
                events = [decode_event(fields[b"e"]) for _, fields in entries]
                if events and type(events[-1]) in TERMINAL_STATES:
                    return events
                await asyncio.sleep(0.05)
    finally:
        await redis.aclose()
