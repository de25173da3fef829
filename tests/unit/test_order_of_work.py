"""Whose run starts next: tiers in order, tenants in turns, and nobody's while the model refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import cast

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from shared import redis_keys as keys
from shared.keys import Limits
from shared.pauses import PauseStore
from shared.run_store import RunStore
from shared.runs import RunState, Tier, encode_request
from shared.submission import QueueFullError
from tests.unit.support import COMPLETED, request

QUEUE, BATCHES = keys.queue("a"), keys.batch_queue("a")


async def hset(redis: ArqRedis, name: str, fields: Mapping[str, str | bytes | int | float]) -> None:
    await cast("Awaitable[int]", redis.hset(name, mapping=dict(fields)))


async def put(
    store: RunStore, run_id: str, tenant: str = "t", tier: Tier = "default", *, is_batch: bool = False
) -> None:
    asked = replace(request(), tenant=tenant, tier=tier, is_batch=is_batch)
    await store.submit(run_id, asked, queue_limit=1000, ttl_s=60)


async def take(store: RunStore, count: int, *, batches: int = 0, worker: str = "w") -> list[str]:
    taken = await store.claim(
        [QUEUE], f"{worker}:1", count, worker_id=worker, batch_queues=[BATCHES], batch_limit=batches
    )
    return [claim.run_id for claim in taken.claims]


async def test_priority_goes_before_default_before_flex_before_batches(store: RunStore) -> None:
    await put(store, "batch", tier="priority", is_batch=True)
    for tier in ("flex", "default", "priority"):
        await put(store, tier, tier=tier)
    assert await take(store, 9, batches=9) == ["priority", "default", "flex", "batch"]


async def test_one_request_waits_for_one_turn_of_a_flood(store: RunStore) -> None:
    for number in range(50):
        await put(store, f"flood-{number:02}", "flooder")
    assert await take(store, 2, worker="v") == ["flood-00", "flood-01"]
    await put(store, "single", "other")
    assert await take(store, 1, worker="v") == ["flood-02"]
    assert await take(store, 1) == ["single"]


async def test_a_tenant_takes_turns_as_one_over_all_queues(store: RunStore) -> None:
    for number in range(4):
        for agent in ("a", "b"):
            asked = replace(request(agent), tenant="flooder")
            await store.submit(f"{agent}{number}", asked, queue_limit=1000, ttl_s=60)
    await put(store, "single", "other")
    both = [QUEUE, keys.queue("b")]
    taken = [claim.run_id for claim in (await store.claim(both, "w:1", 3)).claims]
    assert taken == ["a0", "single", "b0"]


async def test_a_lower_tier_has_a_share_however_much_goes_before_it(store: RunStore) -> None:
    for number in range(60):
        await put(store, f"priority-{number:02}", tier="priority")
    await put(store, "default")
    await put(store, "flex", tier="flex")
    await put(store, "batch", is_batch=True)
    taken = [run_id for _ in range(60) for run_id in await take(store, 1, batches=1)]
    assert [taken.index(run_id) for run_id in ("default", "flex", "batch")] == [9, 19, 49]


async def test_a_full_queue_has_room_for_whom_has_nothing_in_it(store: RunStore) -> None:
    for number in range(5):
        await store.submit(f"r{number}", replace(request(), tenant="t"), queue_limit=5, ttl_s=60)
    for tier in ("default", "priority"):
        asked = replace(request(), tenant="t", tier=tier)
        with pytest.raises(QueueFullError) as caught:
            await store.submit("more", asked, queue_limit=5, ttl_s=60, limits=Limits())
        assert caught.value.drain_s is None  # nothing was ever started
    other = replace(request(), tenant="u")
    await store.submit("u0", other, queue_limit=5, ttl_s=60)
    with pytest.raises(QueueFullError):
        await store.submit("u1", other, queue_limit=5, ttl_s=60)
    await take(store, 1)
    with pytest.raises(QueueFullError) as caught:
        await store.submit("more", replace(request(), tenant="t"), queue_limit=4, ttl_s=60)
    assert caught.value.drain_s is not None


async def test_a_queue_that_an_earlier_version_filled_drains(redis: ArqRedis, store: RunStore) -> None:
    await put(store, "new")
    now = await redis.zscore(QUEUE, "new")
    for number in range(250):
        run_id = f"old-{number:03}"
        fields: dict[str, str | bytes | int | float] = {
            "state": "queued",
            "request": encode_request(request()),
            "created": int(now) - 9,
            "attempt": 0,
            "queue": QUEUE,
            "tenant": "t",
            "agent": "a",
        }
        await hset(redis, keys.run(run_id), fields)
        await redis.expire(keys.run(run_id), 60)
        await redis.set(keys.job(run_id), b"job", ex=60)
        await redis.zadd(QUEUE, {run_id: now - 9})
    await redis.zadd(QUEUE, {"old-held": now + 3_600_000})
    taken: list[str] = []
    while more := await take(store, 60):
        taken += more
    assert sorted(taken) == ["new", *(f"old-{number:03}" for number in range(250))]
    (claim,) = (await store.claim([QUEUE], "w:2", 1)).claims or (None,)
    assert claim is None


async def test_a_run_knows_its_place(store: RunStore) -> None:
    for number in range(5):
        await put(store, f"flood-{number}", "flooder")
    await put(store, "single", "other")
    await put(store, "first", tier="priority")
    assert [(await store.place(f"flood-{n}")).number for n in range(3)] == [2, 4, 5]
    assert (await store.place("single")).number == 3
    assert (await store.place("first")).number == 1
    assert await take(store, 3) == ["first", "flood-0", "single"]
    assert (await store.place("single")).number == 0
    assert (await store.place("flood-1")).number == 1
    assert (await store.place("unknown")).number == 0


async def test_a_refusal_pauses_all_workers_until_a_probe_is_answered(
    redis: ArqRedis, store: RunStore
) -> None:
    pauses = PauseStore(redis)
    await put(store, "batch", is_batch=True)
    for number in range(3):
        await put(store, f"r{number}")

    async def claim(upstream: str = "u", worker: str = "w") -> list[tuple[str, bool]]:
        taken = await store.claim(
            [QUEUE], f"{worker}:1", 2, batch_queues=[BATCHES], batch_limit=2, upstream=upstream
        )
        return [(each.run_id, each.is_probe) for each in taken.claims]

    async def let_it_lapse() -> None:
        await hset(redis, keys.pause("u"), {"until": 1})

    first_s = await pauses.begin("u", 0.0, first_s=60, most_s=100)
    assert 60 <= first_s < 76
    assert await pauses.begin("u", 0.0, first_s=60, most_s=100) <= first_s  # of a run that was under way
    assert await claim() == []
    assert 0 < (await store.place("r0")).paused_s <= first_s
    assert await claim("another") == [("r0", False), ("r1", False)]
    await let_it_lapse()
    assert await claim() == [("r2", True)]  # before the batch
    assert await claim(worker="v") == []  # one is enough
    assert 99 < await pauses.begin("u", 0.0, first_s=60, most_s=100) <= 125
    await let_it_lapse()
    assert await claim() == [("batch", True)]
    assert await pauses.begin("u", 200.0, first_s=60, most_s=100) >= 199
    await pauses.end("u", QUEUE, "a")
    await put(store, "after")
    assert await claim() == [("after", False)]


async def test_a_run_that_was_refused_waits_in_its_old_place(store: RunStore) -> None:
    for number in range(3):
        await put(store, f"r{number}")
    (claim,) = (await store.claim([QUEUE], "w:1", 1)).claims
    attempt = await store.begin(claim, "w", ttl_s=60)
    assert attempt is not None
    assert await store.release(claim, "a", waits_again=True)
    status = await store.status("r0")
    assert status is not None
    assert (status.state, status.attempt, status.is_held) == (RunState.QUEUED, 1, False)
    assert (await store.place("r0")).number == 1
    assert not await store.finish(claim, attempt.number, COMPLETED)
    assert await take(store, 3) == ["r0", "r1", "r2"]
