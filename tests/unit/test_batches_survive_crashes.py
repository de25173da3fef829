"""Whatever dies between any two steps, each line of a batch stands in one of its files, once.

A batch is moved on by coordinators that crash: at every step towards Redis or the storage, before or after it
took effect. The world beside them, runs and clients, lives on.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared import redis_keys as keys
from shared.batches.drive import Announce, Drive, Parts, TryAgainError, WithdrawnError
from shared.batches.records import Batch, BatchSpec, BatchStatus, BatchUsage, Item, Lease, Outcome
from shared.batches.store import BatchStore, LeaseLostError
from shared.blob_directory import BlobDirectory
from shared.files import Files, new_file_id
from shared.run_store import RunStore
from shared.runs import new_run_id
from shared.settings import Settings
from shared.tasks import end_tasks
from shared.webhooks.outbox import Outbox
from tests.unit.support import COMPLETED, request

URL = "/v1/chat/completions"
TENANT = "t"


class Crash(BaseException):
    """The process has died."""


class Runs:
    """The world's runs by id: each is begun once, and ends by itself with what its line says."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.states: dict[str, str] = {}
        self.refusals = 0
        self.stopped = asyncio.Event()

    async def execute(self, item: Item, announce: Announce) -> Outcome:
        wish = json.loads(item.body)["say"]
        run_id = f"{item.batch_id}:{item.number}"
        await announce(run_id, "agent")
        if wish == "later" and self.refusals < 3:
            self.refusals += 1
            raise TryAgainError(0)
        if run_id not in self.states:
            self.begun[run_id] += 1
            self.states[run_id] = "running"
        for _ in range(3):
            await asyncio.sleep(0)
        if wish == "hang":
            await self.stopped.wait()
        if self.states[run_id] == "stopped":
            raise WithdrawnError(outcome(409))
        self.states[run_id] = "over"
        return outcome(400 if wish == "fail" else 200)

    async def stop(self, run_id: str, _: str) -> None:
        if self.states.get(run_id) == "running":
            self.states[run_id] = "stopped"
            self.stopped.set()

    async def is_known(self, run_id: str) -> bool:
        return run_id in self.states


def outcome(status: int) -> Outcome:
    usage = BatchUsage(input_tokens=2, output_tokens=1) if status == 200 else BatchUsage()
    return Outcome(status_code=status, request_id="r", body=b'{"ok": 1}', usage=usage)


class Mortal:
    """Stands before a store or storage, and dies at its `at`-th call: before it takes effect, or after."""

    def __init__(self, inner: Any, clock: Clock) -> None:
        self._inner = inner
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "read":
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._clock.tick()
            answer = await found(*args, **kwargs)
            self._clock.tick()
            return answer

        return call


class Clock:
    """Counts ticks to the crash; once dead, dead."""

    def __init__(self, left: int | None) -> None:
        self.left = left
        self.died = asyncio.Event()

    def tick(self) -> None:
        if self.left is None:
            return
        self.left -= 1
        if self.left < 0:
            self.died.set()
            raise Crash


class World:
    def __init__(self, redis: ArqRedis, root: Path, lines: list[str], *, window_s: float = 3600.0) -> None:
        self.redis = redis
        self.runs = Runs()
        self.lines = lines
        self.window_s = window_s
        self.store = BatchStore(redis, Outbox(Settings()), retention_s=60)
        self.blobs = BlobDirectory(root)
        self.files = Files(redis, self.blobs, ttl_s=3600)

    async def begin(self) -> Batch:
        file_id = new_file_id()
        size = await self.files.store(TENANT, file_id, self._input())
        await self.files.add(TENANT, file_id, filename="in", purpose="batch", size=size)
        spec = BatchSpec(endpoint=URL, input_file_id=file_id, completion_window="24h")
        batch, _ = await self.store.create(TENANT, spec, window_s=self.window_s)
        return batch

    async def _input(self) -> AsyncIterator[bytes]:
        for number, wish in enumerate(self.lines):
            fields = {"custom_id": f"c{number}", "method": "POST", "url": URL, "body": {"say": wish}}
            yield json.dumps(fields).encode() + b"\n"

    async def take(self, lease: Lease, steps: int | None, *, hears: bool = True) -> None:
        """Move the batch on as a process would that dies after so many steps.

        Unless it `hears`, it never renews its lease, and is not told of a cancel.
        """
        clock = Clock(steps)
        store: Any = Mortal(self.store, clock)
        blobs: Any = Mortal(self.blobs, clock)
        drive = Drive(self._parts(store, blobs, clock), lease)
        moving = asyncio.ensure_future(drive.run())
        dying = asyncio.ensure_future(clock.died.wait())
        hearing = asyncio.ensure_future(self._hear(drive, lease) if hears else asyncio.sleep(0))
        try:
            await asyncio.wait({moving, dying}, return_when=asyncio.FIRST_COMPLETED)
            if moving.done() and not clock.died.is_set():
                moving.result()
        finally:
            await end_tasks([moving, dying, hearing])

    def _parts(self, store: Any, blobs: Any, clock: Clock) -> Parts:
        async def capacity() -> int:
            return 3

        async def stop(run_id: str, agent: str) -> None:
            clock.tick()
            await self.runs.stop(run_id, agent)

        return Parts(
            store=store,
            files=Files(self.redis, blobs, ttl_s=3600),
            blobs=blobs,
            endpoints={URL: self.runs.execute},
            capacity=capacity,
            stop=stop,
            has_begun=self.runs.is_known,
            most_line_bytes=10_000,
        )

    async def _hear(self, drive: Drive, lease: Lease) -> None:
        while True:
            drive.hear(await self.store.renew(lease))
            await asyncio.sleep(0.002)

    async def lease(self) -> Lease:
        """The batch for a new process: the lease of the one before has lapsed."""
        for _ in range(100):  # what the one before had sent may still arrive, and keep the batch
            for member in await self.redis.zrange("backline:open-batches", 0, -1):
                await self.redis.zadd("backline:open-batches", {member: 0})
            if leases := await self.store.claim(1):
                return leases[0]
        raise AssertionError("no batch can be taken")

    async def read(self, file_id: str) -> list[dict[str, Any]]:
        if not file_id:
            return []
        assert await self.files.get(TENANT, file_id) is not None
        content = b"".join([piece async for piece in self.files.read(TENANT, file_id)])
        return [json.loads(line) for line in content.splitlines()]


async def check(world: World, batch: Batch, *, cancelled: bool) -> None:
    """What must be true of any batch that is over."""
    assert batch.status is (BatchStatus.CANCELLED if cancelled else BatchStatus.COMPLETED)
    outputs, errors = await world.read(batch.output_file_id), await world.read(batch.error_file_id)
    told = Counter(each["custom_id"] for each in [*outputs, *errors])
    assert told == Counter(f"c{number}" for number in range(len(world.lines)))
    assert (batch.total, batch.completed, batch.failed) == (len(world.lines), len(outputs), len(errors))
    assert batch.usage.input_tokens == 2 * len(outputs)
    assert set(world.runs.begun.values()) <= {1}, "a line's run was begun twice"
    assert "running" not in world.runs.states.values() or not cancelled
    for each in errors:
        wish = world.lines[int(each["custom_id"][1:])]
        if each["response"] is None:
            assert cancelled
            assert each["error"]["code"] == "batch_cancelled"
        else:
            assert (wish, each["response"]["status_code"]) == ("fail", 400)
    for each in outputs:
        assert world.lines[int(each["custom_id"][1:])] != "fail"
    left = [name async for name in world.redis.scan_iter("backline:batch-*")]
    assert left == []
    assert await world.redis.zcard("backline:open-batches") == 0


CRASHES = st.lists(st.integers(0, 60), max_size=8)
WISHES = st.lists(st.sampled_from(["well", "well", "fail", "later"]), min_size=1, max_size=9)
REAL = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@REAL
@given(lines=WISHES, crashes=CRASHES)
async def test_each_line_is_answered_once_however_often_its_keeper_dies(
    redis: ArqRedis, tmp_path: Path, lines: list[str], crashes: list[int]
) -> None:
    await redis.flushall()
    world = World(redis, tmp_path, lines)
    batch = await world.begin()
    for steps in [*crashes, None]:
        if await redis.zcard("backline:open-batches"):
            await world.take(await world.lease(), steps)
    await check(world, await found(world, batch), cancelled=False)


@REAL
@given(lines=WISHES, crashes=CRASHES, at=st.integers(0, 8))
async def test_a_cancel_at_any_time_keeps_what_was_done(
    redis: ArqRedis, tmp_path: Path, lines: list[str], crashes: list[int], at: int
) -> None:
    await redis.flushall()
    world = World(redis, tmp_path, [*lines, "hang"])  # it cannot be over before the cancel
    batch = await world.begin()
    is_cancelled = False
    for number, steps in enumerate([*crashes, 30, None]):
        if number >= min(at, len(crashes) + 1) and not is_cancelled:
            is_cancelled = bool(await world.store.cancel(TENANT, batch.id))
        if await redis.zcard("backline:open-batches"):
            limited = 40 if steps is None and not is_cancelled else steps
            async with asyncio.timeout(20):
                await (world.take(await world.lease(), limited) if is_cancelled else doomed(world, limited))
    await check(world, await found(world, batch), cancelled=True)


async def doomed(world: World, steps: int | None, *, lives_s: float = 0.1) -> None:
    """A process that dies after so many steps, or when nothing goes on any more."""
    try:
        async with asyncio.timeout(lives_s):
            await world.take(await world.lease(), steps)
    except TimeoutError:
        return


async def test_a_process_that_lost_its_lease_changes_nothing(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["well"])
    batch = await world.begin()
    old = await world.lease()
    new = await world.lease()
    with pytest.raises(LeaseLostError):
        await world.store.renew(old)
    with pytest.raises(LeaseLostError):
        await world.store.record(old, 1, b"o{}", is_completed=True, usage=BatchUsage(), runs=[])
    with pytest.raises(LeaseLostError):
        await world.store.commit(old, ["x"], {1: b"o"})
    assert not await world.store.step(old, [BatchStatus.VALIDATING], BatchStatus.FAILED)
    assert await found(world, batch) == batch
    await world.take(new, None)
    await check(world, await found(world, batch), cancelled=False)


async def test_nothing_is_begun_from_the_moment_of_a_cancel(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["well"] * 50)
    batch = await world.begin()
    lease = await world.lease()
    executed = world.runs.execute
    cancelling: list[asyncio.Task[object]] = []
    late: list[str] = []

    async def execute(item: Item, announce: Announce) -> Outcome:
        async def told(run_id: str, agent: str) -> None:
            is_cancelled = bool(cancelling) and cancelling[0].done()
            await announce(run_id, agent)
            if is_cancelled and run_id not in world.runs.states:
                late.append(run_id)

        if item.number == 10:  # nobody hears of it before the next renewal
            cancelling.append(asyncio.ensure_future(world.store.cancel(TENANT, batch.id)))
            await asyncio.shield(cancelling[0])
        return await executed(item, told)

    world.runs.execute = execute  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        await world.take(lease, None, hears=False)
    assert await cancelling[0]
    assert late == []
    assert 0 < len(world.runs.begun) < 20
    await check(world, await found(world, batch), cancelled=True)


async def test_who_has_lost_the_batch_begins_none_of_its_lines(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["well"])
    batch = await world.begin()
    old, new = await world.lease(), await world.lease()
    await world.take(new, None)
    with pytest.raises(LeaseLostError):
        await world.store.announce(old, "run_1", 1, "agent")
    await check(world, await found(world, batch), cancelled=False)


async def test_a_run_is_kept_no_longer_than_others_once_its_line_is_noted(
    redis: ArqRedis, store: RunStore, tmp_path: Path
) -> None:
    world = World(redis, tmp_path, ["well"])
    await world.begin()
    lease = await world.lease()
    await world.store.step(lease, [BatchStatus.VALIDATING], BatchStatus.IN_PROGRESS)
    run_id = new_run_id()
    assert await world.store.announce(lease, run_id, 1, "a")
    await store.submit(run_id, request(), queue_limit=9, ttl_s=60, keep_s=24 * 3600)
    (taken,) = (await store.claim([keys.queue("a")], "w:1", 1)).claims
    attempt = await store.begin(taken, "w", ttl_s=60)
    assert attempt is not None
    await store.finish(taken, attempt.number, COMPLETED)
    assert await redis.ttl(keys.events(run_id)) > 23 * 3600
    await world.store.record(lease, 1, b"o{}", is_completed=True, usage=BatchUsage(), runs=[run_id])
    for name in (keys.run(run_id), keys.events(run_id)):
        assert 0 < await redis.ttl(name) <= 60
    await redis.delete("backline:open-batches")


async def test_what_was_noted_first_stays(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["hang"])
    batch = await world.begin()
    lease = await world.lease()
    for result in (b"o{1}", b"e{2}"):
        await world.store.record(lease, 1, result, is_completed=True, usage=BatchUsage(), runs=[])
    assert await world.store.results(lease) == {1: b"o{1}"}
    await world.store.commit(lease, ["part.o"], {1: b"o{1}"})
    await world.store.record(lease, 1, b"e{3}", is_completed=False, usage=BatchUsage(), runs=[])
    assert await world.store.results(lease) == {}
    again = await found(world, batch)
    assert (again.completed, again.failed) == (1, 0)
    await redis.delete("backline:open-batches")


async def test_an_input_that_goes_meanwhile_ends_the_batch_with_what_was_done(
    redis: ArqRedis, tmp_path: Path
) -> None:
    world = World(redis, tmp_path, ["well", "well", "hang"])
    batch = await world.begin()
    await doomed(world, None, lives_s=2)
    await world.files.delete(TENANT, batch.spec.input_file_id)
    await world.take(await world.lease(), None)
    batch = await found(world, batch)
    assert (batch.status, batch.completed, batch.failed) == (BatchStatus.FAILED, 2, 1)
    assert [each.code for each in batch.problems] == ["invalid_request"]
    assert [each["custom_id"] for each in await world.read(batch.output_file_id)] == ["c0", "c1"]


async def test_what_is_not_done_in_time_is_told_as_expired(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["well", "hang"], window_s=0.2)
    batch = await world.begin()
    await world.take(await world.lease(), None)
    batch = await found(world, batch)
    assert batch.status is BatchStatus.EXPIRED
    (error,) = await world.read(batch.error_file_id)
    assert (error["custom_id"], error["error"]["code"]) == ("c1", "batch_expired")


async def test_results_leave_redis_long_before_the_end(redis: ArqRedis, tmp_path: Path) -> None:
    world = World(redis, tmp_path, ["well"] * 30)
    large = b'"' + b"x" * 1_000_000 + b'"'

    async def execute(item: Item, announce: Announce) -> Outcome:
        await announce(f"{item.number}", "agent")
        return Outcome(status_code=200, request_id="r", body=large)

    world.runs.execute = execute  # type: ignore[method-assign]
    batch = await world.begin()
    await world.take(await world.lease(), None)
    used = await redis.info("memory")
    assert used["used_memory_peak"] < 25_000_000
    batch = await found(world, batch)
    assert (batch.completed, len(await world.read(batch.output_file_id))) == (30, 30)
    assert len([blob async for blob in world.blobs.all()]) == 2, "parts are left"


async def found(world: World, batch: Batch) -> Batch:
    again = await world.store.get(TENANT, batch.id)
    assert again is not None
    return again
