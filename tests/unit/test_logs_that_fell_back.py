"""A replica of Redis has taken over that lacks the newest events: what is done about it, and who is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from arq.connections import ArqRedis

from shared import event_tail
from shared import redis_keys as keys
from shared.claims import Claim, LogBehindError
from shared.event_tail import Cursor, EventHub, EventsLostError
from shared.event_writer import EventWriter
from shared.run_events import LoggedEvent, RunStarted, TextDelta, encode_event
from shared.run_store import RunStore
from tests.unit.support import COMPLETED, eventually, running, submit

QUEUE = keys.queue("a")
LOG = keys.events("r")


@pytest.fixture
async def claim(store: RunStore) -> Claim:
    """A run that has begun."""
    await submit(store, "r")
    (claim,) = (await store.claim([QUEUE], "w:1", 1)).claims
    assert await store.begin(claim, "w", ttl_s=60)
    return claim


async def say(writer: EventWriter, first: int, last: int) -> None:
    for n in range(first, last + 1):
        writer.append("r", 1, n, TextDelta(text=str(n)))
    await writer.flush()


async def fall_back(redis: ArqRedis, old: bytes) -> None:
    """Let the log be as it was, and end all connections but this one."""
    await redis.restore(LOG, 60_000, old, replace=True)
    await redis.client_kill_filter(_type="normal", skipme=True)
    await redis.client_kill_filter(_type="pubsub")


async def read(tail: AsyncGenerator[list[LoggedEvent], None], got: list[int]) -> None:
    async for batch in tail:
        got += [logged.n for logged in batch]


async def numbers(redis: ArqRedis) -> list[int]:
    return [int(entry_id.partition(b"-")[2]) for entry_id, _ in await redis.xrange(LOG)]


async def test_a_worker_says_again_what_the_log_lacks_before_it_ends_the_run(
    redis: ArqRedis, store: RunStore, claim: Claim
) -> None:
    writer, hub, live, late = EventWriter(redis), EventHub(redis), list[int](), list[int]()
    async with running(writer.run(), hub.run()), asyncio.timeout(20):
        reader = asyncio.create_task(read(hub.tail("r", Cursor(), tick_s=0.3), live))
        await say(writer, 2, 10)
        old = await redis.dump(LOG)
        await say(writer, 11, 20)
        await eventually(lambda: live[-1:] == [20], "the reader has all")
        await fall_back(redis, old)
        with pytest.raises(LogBehindError):
            await store.finish(claim, 1, COMPLETED, after=20)
        while len(await numbers(redis)) < 20:  # noqa: ASYNC110 - another process's log
            await asyncio.sleep(0.02)
        await say(writer, 21, 25)
        assert await store.finish(claim, 1, COMPLETED, after=25)
        await reader
        await read(hub.tail("r", Cursor(), tick_s=0.3), late)
    assert live == late == list(range(1, 27))


async def test_an_end_behind_what_is_lost_leaves_a_hole_that_readers_notice(
    redis: ArqRedis, store: RunStore, claim: Claim
) -> None:
    hub, got = EventHub(redis), list[int]()
    assert await store.finish(claim, 1, COMPLETED, after=20, may_lack=True)
    async with running(hub.run()), asyncio.timeout(20):
        with pytest.raises(EventsLostError):
            await read(hub.tail("r", Cursor(), tick_s=0.3), got)
    assert got == [1]


@pytest.mark.parametrize("then", ["nothing", "gone", "begun anew", "taken over"])
async def test_a_reader_that_is_ahead_of_the_log_hears_of_it(
    redis: ArqRedis, claim: Claim, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    """It is never told the rest of other words."""
    monkeypatch.setattr(event_tail, "_MEND_S", 0.5 if then == "nothing" else 60)
    writer, hub, got = EventWriter(redis), EventHub(redis), list[int]()
    async with running(hub.run()), asyncio.timeout(20):
        reader = asyncio.create_task(read(hub.tail("r", Cursor(), tick_s=0.3), got))
        async with running(writer.run()):
            await say(writer, 2, 10)
            old = await redis.dump(LOG)
            await say(writer, 11, 20)
            await eventually(lambda: got[-1:] == [20], "the reader has all")
        attempt = 2 if then == "taken over" else 1
        async with redis.pipeline(transaction=True) as pipe:
            pipe.restore(LOG, 60_000, old, replace=True)
            if then in {"gone", "begun anew"}:
                pipe.delete(LOG)
            if then in {"begun anew", "taken over"}:
                first = 11 if then == "taken over" else 1
                pipe.xadd(LOG, {"e": encode_event(RunStarted("other"))}, id=f"{attempt}-{first}")
                for n in range(first + 1, 30):
                    event = encode_event(TextDelta(text="other words"))
                    pipe.xadd(LOG, {"e": event}, id=f"{attempt}-{n}")
                pipe.pexpire(LOG, 60_000)
            await pipe.execute()
        await redis.client_kill_filter(_type="pubsub")
        with pytest.raises(EventsLostError):
            await reader
    assert got == list(range(1, 21))
