"""A Redis that has lost data is noticed, and nobody waits for what will never come."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from arq.connections import ArqRedis

from api.accepted import AcceptedRun
from api.errors import ApiError
from api.runs import Runs
from shared import redis_keys as keys
from shared.data_mark import DataMark
from shared.event_tail import Cursor, EventHub, EventsLostError
from shared.event_writer import EventWriter
from shared.registry import CachedRegistry, RegistryStore
from shared.run_events import LoggedEvent, TextDelta
from shared.run_store import RunStore
from shared.settings import Settings
from tests.unit.support import COMPLETED, running, submit

QUEUE = keys.queue("a")


async def log_with_a_hole(redis: ArqRedis, store: RunStore, *, lost: int) -> None:
    """A run of ten events that has ended, one of which Redis has lost."""
    await submit(store, "r")
    (claim,) = (await store.claim([QUEUE], "w:1", 1)).claims
    assert await store.begin(claim, "w", ttl_s=60)
    writer = EventWriter(redis)
    async with running(writer.run()):
        for n in range(2, 10):
            writer.append("r", 1, n, TextDelta(text=str(n)))
        await writer.flush()
    assert await store.finish(claim, 1, COMPLETED)
    assert await redis.xdel(keys.events("r"), f"1-{lost}")


@pytest.mark.parametrize("lost", [1, 5, 9])
async def test_a_reader_of_a_log_with_a_hole_gets_what_stands_before_it_and_an_error(
    redis: ArqRedis, store: RunStore, lost: int
) -> None:
    await log_with_a_hole(redis, store, lost=lost)
    hub = EventHub(redis)
    got: list[LoggedEvent] = []

    async def read() -> None:
        async for batch in hub.tail("r", Cursor(), tick_s=1.0):
            got.extend(batch)

    async with running(hub.run()), asyncio.timeout(10):
        with pytest.raises(EventsLostError):
            await read()
        assert [event.n for event in got] == list(range(1, lost))
        assert [event.n for event in await hub.log("r")] == list(range(1, lost))
        rest = [event.n async for batch in hub.tail("r", Cursor(lost), tick_s=1.0) for event in batch]
        assert rest == list(range(lost + 1, 11))


async def test_its_client_is_told_that_the_run_is_lost(redis: ArqRedis, store: RunStore) -> None:
    await log_with_a_hole(redis, store, lost=5)
    hub = EventHub(redis)
    runs = Runs(store, hub, CachedRegistry(RegistryStore(redis)), Settings())

    async def follow() -> None:
        async with aclosing(runs.follow(AcceptedRun("r", "a", 0), tick_s=1.0)) as batches:
            async for _ in batches:
                pass

    async with running(hub.run()), asyncio.timeout(10):
        with pytest.raises(ApiError) as caught:
            await follow()
    assert (caught.value.code, caught.value.is_retryable, caught.value.run_id) == ("run_lost", False, "r")


async def test_a_mark_tells_whether_the_data_are_the_same(redis: ArqRedis) -> None:
    mark, other = DataMark(redis), DataMark(redis)
    await mark.look()
    await other.look()
    await mark.look()
    assert (mark.lost_at, other.lost_at) == (None, None)
    await redis.flushall()
    await other.look()
    await mark.look()
    now, _ = await redis.time()
    for each in (mark, other):
        assert each.lost_at is not None
        assert 0 <= now - each.lost_at < 60
    newcomer = DataMark(redis)
    await newcomer.look()
    assert newcomer.lost_at is None
