"""Workers claim, renew, lose, take over and give back runs, on a real Valkey with a pretended turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis.exceptions import ConnectionError as RedisConnectionError

from shared import redis_keys as keys
from shared.agents import Agent
from shared.claims import Claim
from shared.event_writer import EventWriter
from shared.pauses import PauseStore
from shared.redis import connect
from shared.run_store import RunStore
from shared.runs import RunState
from shared.settings import Settings
from shared.subscriber import Subscriber
from shared.tasks import end_tasks
from tests.unit.support import (
    CANCELLED,
    COMPLETED,
    FAILED,
    Valkey,
    eventually,
    names_in,
    running,
    submit,
)
from worker.directories import Directories
from worker.execute import Executor
from worker.leases import LeaseWorker
from worker.pauses import Pauses

LEASE_MS, RENEW_S = 400, 0.1
Turn = Callable[["Worker", Claim], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LEASE_MS", LEASE_MS)
    monkeypatch.setattr(keys, "RENEW_S", RENEW_S)
    monkeypatch.setattr("worker.leases._RENEW_AGAIN_S", 0.02)


class Worker:
    """A `LeaseWorker` whose turns are `turn`, and what has become of it."""

    def __init__(
        self, redis: ArqRedis, name: str, turn: Turn, *, slots: int, agents: tuple[str, ...]
    ) -> None:
        self.store = RunStore(redis, retention_s=60)
        self.name = name
        self.started: list[str] = []
        self.given_up: list[str] = []
        self.cancelled: list[str] = []
        self.asked_to_cancel: list[str] = []
        self.most_at_once = 0
        self.ending: set[str] = set()
        self.go_on = asyncio.Event()
        self._turn = turn
        self.leases = LeaseWorker(redis, self.store, name, agents, slots, self._execute, self._give_up)
        self.subscriber = Subscriber(redis, lambda *_: self.leases.ring(), lambda _: self.leases.ring())
        self.subscriber.add([keys.doorbell(agent) for agent in agents])

    @asynccontextmanager
    async def alive(self) -> AsyncIterator[Worker]:
        """It works; leaving the block it dies without a word, and its leases lapse."""
        parts = (
            self.subscriber.run(),
            self.leases.renew(self.asked_to_cancel.append),
            self.leases.fence(self.ending.__contains__),
            self.leases.work(),
        )
        try:
            async with running(*parts):
                yield self
        finally:
            self.leases._claims.clear()  # nothing is given back
            await end_tasks([*self.leases.job_tasks.values()])
            await end_tasks([*self.leases.tasks.values()])

    async def _execute(self, claim: Claim) -> None:
        self.started.append(claim.run_id)
        self.most_at_once = max(self.most_at_once, self.leases.busy)
        try:
            await self._turn(self, claim)
        except asyncio.CancelledError:
            self.cancelled.append(claim.run_id)
            raise

    async def _give_up(self, claim: Claim) -> None:
        self.given_up.append(claim.run_id)
        attempt = await self.store.begin(claim, self.name, ttl_s=60)
        if attempt is not None:
            await self.store.finish(claim, attempt.number, FAILED)


async def complete(worker: Worker, claim: Claim) -> None:
    """A turn as short as can be."""
    attempt = await worker.store.begin(claim, worker.name, ttl_s=60)
    assert attempt is not None
    await worker.store.finish(claim, attempt.number, COMPLETED)


async def hold(worker: Worker, claim: Claim) -> None:
    """A turn that lasts until the test says otherwise."""
    attempt = await worker.store.begin(claim, worker.name, ttl_s=60)
    assert attempt is not None
    await worker.go_on.wait()
    await worker.store.finish(claim, attempt.number, COMPLETED)


async def vanish(worker: Worker, claim: Claim) -> None:
    """A turn during which the worker dies: it is never heard of again, and its lease lapses."""
    await worker.store.begin(claim, worker.name, ttl_s=60)
    worker.leases._claims.pop(claim.run_id)


MakeWorker = Callable[..., Worker]


@pytest.fixture
def new_worker(redis: ArqRedis) -> MakeWorker:
    names = iter("wxyz")

    def make(turn: Turn = complete, *, slots: int = 4, agents: tuple[str, ...] = ("a",)) -> Worker:
        return Worker(redis, next(names), turn, slots=slots, agents=agents)

    return make


async def state_of(store: RunStore, run_id: str) -> RunState:
    status = await store.status(run_id)
    assert status is not None
    return status.state


async def under_way(store: RunStore, run_ids: list[str]) -> None:
    async with asyncio.timeout(15):
        while True:
            states = {await state_of(store, run_id) for run_id in run_ids}
            if states == {RunState.RUNNING}:
                return
            await asyncio.sleep(0.005)


async def all_ended(store: RunStore, run_ids: list[str], within_s: float = 15.0) -> set[RunState]:
    async with asyncio.timeout(within_s):
        while True:
            states = {await state_of(store, run_id) for run_id in run_ids}
            if all(state.is_terminal for state in states):
                return states
            await asyncio.sleep(0.01)


async def test_runs_end_within_the_slots(redis: ArqRedis, store: RunStore, new_worker: MakeWorker) -> None:
    run_ids = [f"r{n}" for n in range(60)]
    for run_id in run_ids:
        await submit(store, run_id)
    async with new_worker(slots=3).alive() as worker:
        assert await all_ended(store, run_ids) == {RunState.COMPLETED}
        assert worker.most_at_once == 3
        assert sorted(worker.started) == sorted(run_ids)
        await eventually(lambda: worker.leases.busy == 0, "slots are free again")
        assert worker.leases._claims == {}
    names = {name.split(":")[1] for name in await names_in(redis)}
    assert names == {"run", "events"}


async def test_a_full_worker_takes_no_more(store: RunStore, new_worker: MakeWorker) -> None:
    for n in range(5):
        await submit(store, f"r{n}")
    async with new_worker(hold, slots=2).alive() as worker:
        await eventually(lambda: len(worker.started) == 2, "slots are taken")
        await asyncio.sleep(3 * RENEW_S)
        assert len(worker.started) == 2
        worker.go_on.set()
        assert await all_ended(store, [f"r{n}" for n in range(5)]) == {RunState.COMPLETED}
        assert worker.most_at_once == 2


async def test_the_doorbell_wakes_a_worker(
    store: RunStore, new_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.leases._IDLE_POLL_S", 3600.0)
    async with new_worker().alive() as worker:
        for n in range(5):
            await asyncio.sleep(0.05)
            await submit(store, f"r{n}")
            await eventually(lambda n=n: len(worker.started) == n + 1, "the run starts")  # type: ignore[misc]


async def test_a_lost_doorbell_only_delays(
    store: RunStore, new_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.leases._IDLE_POLL_S", 0.05)
    worker = new_worker()
    worker.subscriber.remove(keys.doorbell("a"))
    async with worker.alive():
        await asyncio.sleep(0.1)
        await submit(store, "r")
        await eventually(lambda: worker.started, "the run starts")


async def test_a_worker_serves_all_its_agents_and_no_other(store: RunStore, new_worker: MakeWorker) -> None:
    for agent in "abc":
        await submit(store, f"r-{agent}", agent)
    async with new_worker(agents=("a", "b")).alive() as worker:
        await all_ended(store, ["r-a", "r-b"])
        await asyncio.sleep(RENEW_S)
        assert sorted(worker.started) == ["r-a", "r-b"]
    assert await state_of(store, "r-c") is RunState.QUEUED


async def test_a_long_run_keeps_its_lease(store: RunStore, new_worker: MakeWorker) -> None:
    await submit(store, "r")
    async with new_worker(hold).alive() as first, new_worker().alive() as second:
        await eventually(lambda: first.started or second.started, "somebody starts it")
        if second.started:
            return  # it was over at once
        await asyncio.sleep(3 * LEASE_MS / 1000)
        assert second.started == []
        first.go_on.set()
        assert await all_ended(store, ["r"]) == {RunState.COMPLETED}
        assert first.started == ["r"]


async def test_only_the_turn_bounds_its_time(store: RunStore, new_worker: MakeWorker) -> None:
    await submit(store, "r")
    worker = new_worker(hold)
    worker.leases.job_timeout_s = 0.05  # ARQ's own limit, 300 s by default
    async with worker.alive():
        await eventually(lambda: worker.started, "it is under way")
        await asyncio.sleep(0.2)
        worker.go_on.set()
        assert await all_ended(store, ["r"]) == {RunState.COMPLETED}
        assert worker.cancelled == []
        assert worker.started == ["r"]


async def test_a_dead_workers_runs_are_taken_over(store: RunStore, new_worker: MakeWorker) -> None:
    run_ids = [f"r{n}" for n in range(4)]
    for run_id in run_ids:
        await submit(store, run_id)
    async with new_worker(hold).alive():
        await under_way(store, run_ids)
    async with new_worker().alive() as second:
        assert await all_ended(store, run_ids) == {RunState.COMPLETED}
        assert sorted(second.started) == run_ids


async def test_a_run_whose_lease_another_took_is_cancelled_once(
    redis: ArqRedis, store: RunStore, new_worker: MakeWorker
) -> None:
    """Once: a second cancel would cut the clean-up short."""
    cleaned: list[str] = []

    async def clean_up_slowly(worker: Worker, claim: Claim) -> None:
        await worker.store.begin(claim, worker.name, ttl_s=60)
        try:
            await worker.go_on.wait()
        finally:
            await asyncio.sleep(5 * RENEW_S)
            cleaned.append(claim.run_id)

    await submit(store, "r")
    async with new_worker(clean_up_slowly).alive() as worker:
        await eventually(lambda: worker.started, "it is under way")
        await redis.set(keys.lease("r"), "another", px=60_000)
        await eventually(lambda: worker.leases.busy == 0, "the slot is free")
        assert cleaned == worker.cancelled == ["r"]
        assert await redis.get(keys.lease("r")) == b"another"


async def test_a_worker_that_is_cut_off_leaves_its_runs_before_their_leases_lapse(
    store: RunStore, redis: ArqRedis, new_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But not one whose last event alone is missing: it has no agent any more."""
    for run_id in ("acts", "ends"):
        await submit(store, run_id)

    async def unreachable(*_: object, **__: object) -> None:
        raise RedisConnectionError

    async with new_worker(hold).alive() as worker:
        await under_way(store, ["acts", "ends"])
        worker.ending.add("ends")
        with monkeypatch.context() as cut:
            cut.setattr(worker.store, "renew", unreachable)
            cut.setattr(worker.store, "claim", unreachable)
            await eventually(lambda: worker.cancelled, "the worker leaves a run")
            assert await redis.pttl(keys.lease("acts")) > 0
            await eventually(lambda: worker.leases.busy == 1, "its slot is free")
        worker.go_on.set()
        assert await all_ended(store, ["acts", "ends"]) == {RunState.COMPLETED}
        assert worker.cancelled == ["acts"]
        assert sorted(worker.started) == ["acts", "acts", "ends"]


async def test_a_worker_hears_with_its_renewal_what_to_cancel(
    store: RunStore, new_worker: MakeWorker
) -> None:
    await submit(store, "r")
    async with new_worker(hold).alive() as worker:
        await eventually(lambda: worker.started, "it is under way")
        await store.stop("r", "a", CANCELLED, "why")
        await eventually(lambda: "r" in worker.asked_to_cancel, "it hears")
        worker.go_on.set()
        await all_ended(store, ["r"])


async def test_a_drain_lets_runs_finish_and_takes_no_more(store: RunStore, new_worker: MakeWorker) -> None:
    await submit(store, "r")
    async with new_worker(hold).alive() as worker:
        await eventually(lambda: worker.started, "it is under way")
        drain = asyncio.create_task(worker.leases.drain(10))
        await asyncio.sleep(0.02)
        await submit(store, "late")
        await asyncio.sleep(2 * RENEW_S)
        assert not drain.done()
        worker.go_on.set()
        await drain
        assert worker.started == ["r"]
        assert await state_of(store, "r") is RunState.COMPLETED
    assert await state_of(store, "late") is RunState.QUEUED


async def test_what_a_drain_cannot_finish_another_worker_gets(
    redis: ArqRedis, store: RunStore, new_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "LEASE_MS", 3_600_000)  # it is given back, not waited for
    run_ids = ["r0", "r1", "r2"]
    for run_id in run_ids:
        await submit(store, run_id)
    async with new_worker(hold).alive() as first:
        await under_way(store, run_ids)
        await first.leases.drain(0.05)
        assert sorted(first.cancelled) == run_ids
        assert first.leases.busy == 0
        assert [await redis.get(keys.retry(run_id)) for run_id in run_ids] == [b"0"] * 3
        async with new_worker().alive() as second:
            assert await all_ended(store, run_ids) == {RunState.COMPLETED}
            assert sorted(second.started) == run_ids


async def test_a_drain_ends_even_a_run_whose_cancel_was_lost(
    redis: ArqRedis, store: RunStore, new_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose_a_cancel(worker: Worker, claim: Claim) -> None:
        await worker.store.begin(claim, worker.name, ttl_s=60)
        with suppress(asyncio.CancelledError):
            await worker.go_on.wait()
        await worker.go_on.wait()

    monkeypatch.setattr("worker.leases._AGAIN_S", 0.1)
    await submit(store, "r")
    async with new_worker(lose_a_cancel).alive() as worker:
        await under_way(store, ["r"])
        async with asyncio.timeout(10):
            await worker.leases.drain(0.05)
        assert worker.cancelled == ["r"]
        assert not await redis.exists(keys.lease("r"))


async def test_a_cancel_that_was_lost_before_the_turn_is_heeded_there(
    redis: ArqRedis, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await submit(store, "r")
    (claim,) = (await store.claim([keys.queue("a")], "w:1", 1)).claims
    began, begin = asyncio.Event(), store.begin

    async def begin_and_lose_a_cancel(*args: Any, **kwargs: Any) -> Any:
        attempt = await begin(*args, **kwargs)
        began.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return attempt

    monkeypatch.setattr(store, "begin", begin_and_lose_a_cancel)
    turns: Any = None  # it would raise
    pauses = Pauses(PauseStore(redis), "")
    executor = Executor(redis, store, EventWriter(redis), turns, Settings(), "w", pauses)
    task = asyncio.create_task(executor.execute(claim))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_three_starts_without_an_end_are_enough(store: RunStore, new_worker: MakeWorker) -> None:
    await submit(store, "poison")
    async with new_worker(vanish).alive() as worker:
        assert await all_ended(store, ["poison"]) == {RunState.FAILED}
        assert worker.started == ["poison"] * 3
        assert worker.given_up == ["poison"]
        await submit(store, "next")
        await eventually(lambda: "next" in worker.started, "others go on")


async def test_a_turn_that_raises_is_not_started_for_ever(store: RunStore, new_worker: MakeWorker) -> None:
    async def fail(worker: Worker, claim: Claim) -> None:
        await worker.store.begin(claim, worker.name, ttl_s=60)
        raise ValueError("a run that this worker cannot read")

    await submit(store, "r")
    async with new_worker(fail).alive() as worker:
        assert await all_ended(store, ["r"]) == {RunState.FAILED}
        assert worker.started == ["r"] * 3
        assert worker.given_up == ["r"]


async def test_a_turn_that_could_not_reach_redis_is_started_again(
    store: RunStore, new_worker: MakeWorker
) -> None:
    failures = iter(range(6))

    async def fail_for_a_while(worker: Worker, claim: Claim) -> None:
        if next(failures, None) is not None:
            raise RedisConnectionError("gone")
        await complete(worker, claim)

    await submit(store, "r")
    async with new_worker(fail_for_a_while).alive() as worker:
        assert await all_ended(store, ["r"]) == {RunState.COMPLETED}
        assert worker.given_up == []


async def test_an_agent_that_is_out_of_service_is_answered_for_where_somebody_stands_in(
    store: RunStore, new_worker: MakeWorker, tmp_path: Path
) -> None:
    """Its worker, whose fallbacks stand in for it, does not hand the run back to itself for ever."""
    worker = new_worker(complete)
    worker.leases._directories = Directories({"a": Agent("a", tmp_path / "gone")})
    await submit(store, "r")
    async with worker.alive():
        await asyncio.sleep(3 * RENEW_S)
        assert worker.started == []
        worker.leases.serve(("a",))
        worker.leases.ring()
        assert await all_ended(store, ["r"]) == {RunState.COMPLETED}
    assert worker.started == ["r"]


async def test_a_run_whose_record_has_lapsed_is_forgotten(
    redis: ArqRedis, store: RunStore, new_worker: MakeWorker
) -> None:
    await submit(store, "r")
    await redis.delete(keys.run("r"), keys.job("r"))
    async with new_worker().alive() as worker:
        await eventually(lambda: worker.given_up, "it is looked at")
        await asyncio.sleep(3 * RENEW_S)
        assert worker.given_up == ["r"]
        assert worker.started == []
    assert not await names_in(redis)


async def test_a_restart_of_valkey_does_not_end_a_worker(durable_valkey: Valkey) -> None:
    redis = connect(durable_valkey.url)
    worker = Worker(redis, "w", hold, slots=4, agents=("a",))
    async with worker.alive():
        await submit(worker.store, "before")
        await eventually(lambda: worker.started == ["before"], "it is under way")
        await asyncio.to_thread(durable_valkey.kill)
        await asyncio.sleep(3 * RENEW_S)
        await asyncio.to_thread(durable_valkey.start)
        await submit(worker.store, "after")
        await eventually(lambda: "after" in worker.started, "the worker takes runs again")
        worker.go_on.set()
        assert await all_ended(worker.store, ["before", "after"]) == {RunState.COMPLETED}
    await redis.aclose()
