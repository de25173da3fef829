"""The steps of a run's life, one by one, on a real Valkey. `test_run_life` walks them in any order."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import ArqRedis
from arq.jobs import deserialize_job
from msgspec import msgpack
from msgspec.structs import replace

from shared import redis_keys as keys
from shared.claims import Claim
from shared.run_events import (
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    decode_event,
)
from shared.run_store import RunStore
from shared.runs import RunState, new_run_id
from shared.submission import JOB_FUNCTION, QueueFullError
from tests.unit.support import CANCELLED, COMPLETED, FAILED, lapse, names_in, request, submit

QUEUE = keys.queue("a")


async def claim_one(store: RunStore, owner: str = "w:1", queue: str = QUEUE) -> Claim:
    (claim,) = (await store.claim([queue], owner, 1)).claims
    return claim


async def log_of(redis: ArqRedis, run_id: str) -> list[tuple[str, RunEvent]]:
    entries = await redis.xrange(keys.events(run_id))
    return [(entry_id.decode(), decode_event(fields[b"e"])) for entry_id, fields in entries]


async def test_submitting_leaves_record_job_and_queue_entry_and_rings(
    redis: ArqRedis, store: RunStore
) -> None:
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.doorbell("a"))
        await pubsub.get_message(timeout=5)
        submitted = await store.submit("r", request(), queue_limit=5, ttl_s=60)
        ring = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
    assert ring is not None
    assert ring["data"] == b"r"
    assert submitted.waiting == 0
    assert await redis.zscore(QUEUE, "r") == submitted.created_ms
    status = await store.status("r")
    assert status is not None
    assert (status.state, status.attempt, status.is_held) == (RunState.QUEUED, 0, False)
    body = await redis.get(keys.job("r"))
    assert body is not None
    job = deserialize_job(body, deserializer=msgpack.decode)
    assert (job.function, list(job.args)) == (JOB_FUNCTION, ["r"])


async def test_submitting_an_id_again_changes_nothing(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.begin(claim, "w", ttl_s=60)
    await store.submit("r", request(text="other"), queue_limit=5, ttl_s=60)
    status = await store.status("r")
    assert status is not None
    assert status.state is RunState.RUNNING
    assert not (await store.claim([QUEUE], "w:2", 5)).claims


async def test_submitting_a_finished_run_again_does_not_run_it_again(store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.begin(claim, "w", ttl_s=60)
    assert await store.finish(claim, 1, COMPLETED)
    await submit(store, "r")
    assert not (await store.claim([QUEUE], "w:2", 5)).claims


async def test_the_queue_holds_exactly_as_many_as_it_may(store: RunStore) -> None:
    answers = await asyncio.gather(
        *(submit(store, f"r{n}", limit=7) for n in range(20)), return_exceptions=True
    )
    assert sum(answer is None for answer in answers) == 7
    assert all(answer is None or isinstance(answer, QueueFullError) for answer in answers)
    await submit(store, "elsewhere", "b", limit=7)
    await claim_one(store)  # what runs does not wait
    await submit(store, "one-more", limit=7)
    with pytest.raises(QueueFullError):
        await submit(store, "too-many", limit=7)
    assert await store.status("too-many") is None


async def test_runs_of_a_queue_are_claimed_in_the_order_they_came_the_queues_in_turns(
    store: RunStore,
) -> None:
    for n in range(3):
        await submit(store, f"b{n}", "b")
    for n in range(3):
        await submit(store, f"a{n}")
        await asyncio.sleep(0.002)
    claimed = await store.claim([QUEUE, keys.queue("b")], "w:1", 4)
    assert [claim.run_id for claim in claimed.claims] == ["b0", "a0", "b1", "a1"]
    assert [claim.queue for claim in claimed.claims] == [keys.queue("b"), QUEUE] * 2
    assert claimed.next_due_s == 0


async def test_a_claim_says_when_to_look_again(store: RunStore) -> None:
    assert (await store.claim([QUEUE], "w:1", 4)).next_due_s is None
    await submit(store, "r")
    claimed = await store.claim([QUEUE], "w:1", 4)
    assert claimed.next_due_s == keys.LEASE_MS / 1000


async def test_a_run_is_claimed_once_however_many_ask(store: RunStore) -> None:
    for n in range(30):
        await submit(store, f"r{n}")
    answers = await asyncio.gather(*(store.claim([QUEUE], f"w:{n}", 7) for n in range(10)))
    taken = [claim.run_id for answer in answers for claim in answer.claims]
    assert sorted(taken) == sorted(f"r{n}" for n in range(30))


async def test_a_due_run_whose_lease_lives_is_not_given(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "held")
    await claim_one(store)
    await redis.zadd(QUEUE, {"held": 1})
    await submit(store, "free")
    claimed = await store.claim([QUEUE], "w:2", 5)
    assert [claim.run_id for claim in claimed.claims] == ["free"]


async def test_what_runs_does_not_starve_what_waits(store: RunStore) -> None:
    for n in range(300):
        await submit(store, f"r{n:03}")
    assert len((await store.claim([QUEUE], "w:1", 299)).claims) == 299
    assert [claim.run_id for claim in (await store.claim([QUEUE], "w:2", 1)).claims] == ["r299"]


async def test_an_attempt_begins_with_its_event_and_the_request(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    attempt = await store.begin(await claim_one(store), "worker", ttl_s=60)
    assert attempt is not None
    assert (attempt.number, attempt.n, attempt.cancel, attempt.request) == (1, 1, "", request())
    assert 0 <= attempt.waited_s < 60
    assert await log_of(redis, "r") == [("1-1", RunStarted(worker="worker"))]


async def test_only_the_holder_of_the_lease_begins(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    old = await claim_one(store, "w:1")
    await lapse(redis, "r", QUEUE)
    assert await store.begin(old, "w", ttl_s=60) is None
    new = await claim_one(store, "w:2")
    assert await store.begin(old, "w", ttl_s=60) is None
    assert await store.begin(new, "w", ttl_s=60) is not None


async def test_a_later_attempt_goes_on_counting_and_shuts_the_earlier_one_out(
    redis: ArqRedis, store: RunStore
) -> None:
    await submit(store, "r")
    old = await claim_one(store, "w:1")
    assert await store.begin(old, "w", ttl_s=60)
    await redis.xadd(keys.events("r"), {"e": b""}, id="1-2")
    await lapse(redis, "r", QUEUE)
    new = await claim_one(store, "w:2")
    attempt = await store.begin(new, "w", ttl_s=60)
    assert attempt is not None
    assert (attempt.number, attempt.n) == (2, 3)
    with pytest.raises(Exception, match="equal or smaller"):
        await redis.xadd(keys.events("r"), {"e": b""}, id="1-3")
    assert not await store.finish(old, 1, FAILED)
    assert await store.finish(new, 2, COMPLETED)


async def test_a_finish_happens_once_and_leaves_the_record_alone(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    await redis.incr(keys.retry("r"))
    assert not await store.finish(claim, 1, COMPLETED)  # it has not begun
    assert await store.begin(claim, "w", ttl_s=60)
    answers = await asyncio.gather(
        *(store.finish(claim, 1, event) for event in (COMPLETED, FAILED, CANCELLED, COMPLETED))
    )
    assert answers == [True, False, False, False]
    assert await log_of(redis, "r") == [("1-1", RunStarted(worker="w")), ("1-2", COMPLETED)]
    status = await store.status("r")
    assert status is not None
    assert (status.state, status.is_held) == (RunState.COMPLETED, False)
    assert await names_in(redis) == {keys.run("r"), keys.events("r")}
    assert await store.begin(claim, "w", ttl_s=60) is None
    assert not await store.release(claim, "a")
    assert await store.renew([claim]) == {"r": "kept"}  # its worker tidies up
    assert not await redis.exists(keys.lease("r"))


@pytest.mark.parametrize(
    ("event", "state"),
    [(COMPLETED, RunState.COMPLETED), (FAILED, RunState.FAILED), (CANCELLED, RunState.CANCELLED)],
)
async def test_each_end_has_its_state(
    store: RunStore, event: RunCompleted | RunFailed | RunCancelled, state: RunState
) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.begin(claim, "w", ttl_s=60)
    assert await store.finish(claim, 1, event)
    status = await store.status("r")
    assert status is not None
    assert status.state is state
    assert state.is_terminal


async def test_a_renewed_lease_is_kept_for_its_full_length(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    await redis.pexpire(keys.lease("r"), 500)
    assert await store.renew([claim]) == {"r": "kept"}
    assert await redis.pttl(keys.lease("r")) > keys.LEASE_MS - 1000
    assert not (await store.claim([QUEUE], "w:2", 5)).claims


async def test_renewing_nothing_asks_nothing(store: RunStore) -> None:
    assert await store.renew([]) == {}


async def test_a_lapsed_lease_without_a_taker_is_taken_back(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    await lapse(redis, "r", QUEUE)
    assert await store.renew([claim]) == {"r": "kept"}
    assert not (await store.claim([QUEUE], "w:2", 5)).claims


async def test_a_lease_that_another_has_is_lost(redis: ArqRedis, store: RunStore) -> None:
    for run_id in ("r0", "r1"):
        await submit(store, run_id)
    claims = (await store.claim([QUEUE], "w:1", 2)).claims
    await lapse(redis, "r0", QUEUE)
    await claim_one(store, "w:2")
    assert await store.renew(claims) == {"r0": "lost", "r1": "kept"}
    assert await redis.get(keys.lease("r0")) == b"w:2"


async def test_a_run_that_ended_elsewhere_is_lost(redis: ArqRedis, store: RunStore) -> None:
    """A worker that slept through it must end its CLI at once, not at the turn's end."""
    claims = []
    for run_id in ("stopped", "finished"):
        await submit(store, run_id)
        claims.append(await claim_one(store, "w:1"))
        assert await store.begin(claims[-1], "w", ttl_s=60)
    await lapse(redis, "stopped", QUEUE)
    assert await store.stop("stopped", "a", FAILED, "why")
    await lapse(redis, "finished", QUEUE)
    other = await claim_one(store, "other:1")
    assert await store.begin(other, "other", ttl_s=60)
    assert await store.finish(other, 2, COMPLETED)
    assert await store.renew(claims) == {"stopped": "lost", "finished": "lost"}
    assert not await redis.exists(keys.lease("stopped"), keys.lease("finished"))


async def test_a_released_run_is_due_at_once_and_its_start_does_not_count(
    redis: ArqRedis, store: RunStore
) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    await redis.set(keys.retry("r"), 2, ex=60)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.doorbell("a"))
        await pubsub.get_message(timeout=5)
        assert await store.release(claim, "a")
        ring = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
    assert ring is not None
    assert await redis.get(keys.retry("r")) == b"1"
    assert (await claim_one(store, "w:2")).run_id == "r"
    assert not await store.release(claim, "a")


async def test_only_starts_that_began_its_agent_are_held_against_a_run(
    redis: ArqRedis, store: RunStore
) -> None:
    """Workers that die before, over and over, cost it nothing; those that die after it count as before."""
    await submit(store, "r")

    async def counted(number: int, *, begins: bool, gives_back: bool = False) -> int:
        claim = await claim_one(store, f"w{number}:1")
        tries: int = await redis.incr(keys.retry("r"))  # as ARQ does when it looks at the job
        await redis.expire(keys.retry("r"), 60)
        if begins:
            assert await store.begin(claim, f"w{number}", ttl_s=60)
        if gives_back:
            assert await store.release(claim, "a")
        else:
            await lapse(redis, "r", QUEUE)
        return tries

    assert [await counted(n, begins=False) for n in range(5)] == [1] * 5
    assert [await counted(n, begins=True) for n in range(2)] == [1, 2]
    assert [await counted(n, begins=False) for n in range(3)] == [3] * 3
    assert [await counted(n, begins=True, gives_back=True) for n in range(3)] == [3] * 3
    assert await counted(9, begins=True) == 3
    assert await counted(9, begins=True) == 4


async def test_a_release_of_a_run_that_is_gone_leaves_no_queue_entry(
    redis: ArqRedis, store: RunStore
) -> None:
    """Its record lapsed while it waited: given back, it would be claimed again, without end."""
    await submit(store, "r")
    claim = await claim_one(store)
    await redis.set(keys.retry("r"), 1, ex=60)
    await redis.delete(keys.run("r"), keys.job("r"))
    assert await store.begin(claim, "w", ttl_s=60) is None
    await store.release(claim, "a")
    assert not await names_in(redis)


async def test_a_run_that_nobody_has_is_stopped_at_once(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    assert await store.stop("r", "a", CANCELLED, "why")
    assert await log_of(redis, "r") == [("1-1", CANCELLED)]
    assert await names_in(redis) == {keys.run("r"), keys.events("r")}
    assert not await store.stop("r", "a", FAILED, "why")
    assert not await store.stop("no-such-run", "a", FAILED, "why")


async def test_a_stop_shuts_out_a_worker_that_was_lost(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.begin(claim, "w", ttl_s=60)
    await lapse(redis, "r", QUEUE)
    assert await store.stop("r", "a", FAILED, "why")
    assert not await store.finish(claim, 1, COMPLETED)
    with pytest.raises(Exception, match="equal or smaller"):
        await redis.xadd(keys.events("r"), {"e": b""}, id="1-2")
    assert [event for _, event in await log_of(redis, "r")] == [RunStarted(worker="w"), FAILED]


async def test_the_worker_of_a_run_hears_that_it_should_stop(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.begin(claim, "w", ttl_s=60)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(keys.control("w"))
        await pubsub.get_message(timeout=5)
        assert await store.stop("r", "a", CANCELLED, "why")
        told = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
    assert told is not None
    assert told["data"] == b"r"
    assert await store.renew([claim]) == {"r": "cancel"}
    assert len(await log_of(redis, "r")) == 1  # the worker says the end


async def test_a_stop_between_claim_and_begin_is_not_missed(store: RunStore) -> None:
    await submit(store, "r")
    claim = await claim_one(store)
    assert await store.stop("r", "a", CANCELLED, "why")
    attempt = await store.begin(claim, "w", ttl_s=60)
    assert attempt is not None
    assert attempt.cancel == "why"


async def test_events_of_a_run_that_is_gone_are_not_kept(redis: ArqRedis, store: RunStore) -> None:
    assert await store.status("r") is None
    assert not await redis.keys()


def test_run_ids_sort_by_age() -> None:
    ids = [new_run_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert [each[:16] for each in ids] == sorted(each[:16] for each in ids)


def test_an_event_survives_its_encoding() -> None:
    event = TextDelta(text="ü\u2028\x00🙂")
    assert decode_event(msgpack.encode(event)) == event


async def submit_of_batch(store: RunStore, run_id: str) -> None:
    await store.submit(run_id, replace(request("a"), is_batch=True), queue_limit=1000, ttl_s=60, keep_s=600)


async def claimed(store: RunStore, limit: int, batch_limit: int, spare: int) -> list[str]:
    queues, batches = [keys.queue("a")], [keys.batch_queue("a")]
    taken = await store.claim(queues, "t", limit, batch_queues=batches, batch_limit=batch_limit, spare=spare)
    return [claim.run_id for claim in taken.claims]


async def test_runs_of_batches_come_last_and_leave_room(store: RunStore) -> None:
    for number in range(6):
        await submit_of_batch(store, f"batch-{number}")
    await submit(store, "waited-for")
    assert await claimed(store, 4, 3, 1) == ["waited-for", "batch-0", "batch-1"]
    assert await claimed(store, 1, 3, 1) == []
    assert await claimed(store, 4, 0, 1) == []
    assert await claimed(store, 4, 1, 1) == ["batch-2"]
    assert await claimed(store, 1, 1, 0) == ["batch-3"]


async def test_a_batch_that_has_no_room_is_no_reason_to_look_again_at_once(store: RunStore) -> None:
    await submit_of_batch(store, "batch")
    taken = await store.claim(
        [keys.queue("a")], "t", 4, batch_queues=[keys.batch_queue("a")], batch_limit=0, spare=1
    )
    assert (taken.claims, taken.next_due_s) == ((), None)


async def test_a_run_of_a_batch_is_kept_as_long_as_was_asked(redis: ArqRedis, store: RunStore) -> None:
    await submit_of_batch(store, "batch")
    await submit_of_batch(store, "batch")
    assert await redis.zcard(keys.batch_queue("a")) == 1
    assert await store.stop("batch", "a", CANCELLED, "")
    assert 590_000 < await redis.pttl(keys.run("batch")) <= 600_000
    assert 590_000 < await redis.pttl(keys.events("batch")) <= 600_000
    assert await redis.exists(keys.batch_queue("a")) == 0
