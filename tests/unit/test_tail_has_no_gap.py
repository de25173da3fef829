"""A reader gets every event once and in order, whatever pub/sub loses, repeats or brings late."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import RedisError

from shared import event_tail
from shared import redis_keys as keys
from shared.claims import Claim
from shared.event_tail import Cursor, EventHub
from shared.event_writer import EventWriter
from shared.redis import connect
from shared.run_events import LoggedEvent, RunEvent, RunStarted, TextDelta
from shared.run_store import RunStore
from tests.unit.support import COMPLETED, FAILED, Valkey, eventually, lapse, running, submit

QUEUE = keys.queue("a")


# The cursor: pure.


@st.composite
def logs(draw: st.DrawFn) -> list[LoggedEvent]:
    """A log of one to three attempts that ends."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    log: list[LoggedEvent] = []
    for attempt, size in enumerate(sizes, start=1):
        log.append(LoggedEvent(attempt, len(log) + 1, RunStarted("w")))
        log += [LoggedEvent(attempt, len(log) + 1 + i, TextDelta(f"{attempt}.{i}")) for i in range(size)]
    log.append(LoggedEvent(len(sizes), len(log) + 1, COMPLETED))
    return log


@st.composite
def zombies(draw: st.DrawFn, log: list[LoggedEvent]) -> list[LoggedEvent]:
    """What superseded attempts publish although it is refused by the log."""
    starts = [event for event in log if isinstance(event.event, RunStarted)][1:]
    return [
        LoggedEvent(start.attempt - 1, start.n + draw(st.integers(0, 4)), TextDelta("zombie"))
        for start in starts
    ]


@given(st.data())
def test_any_loss_repeat_and_replay_gives_the_exact_rest(data: st.DataObject) -> None:
    log = data.draw(logs())
    after = data.draw(st.integers(0, len(log) - 1))
    cursor = Cursor(after)
    got: list[LoggedEvent] = []
    published = 0
    for _ in range(data.draw(st.integers(0, 25))):
        if data.draw(st.booleans()):
            published = min(len(log), published + data.draw(st.integers(1, 4)))
        if data.draw(st.booleans()):  # live: some of what was published, in order, with repeats
            picked = data.draw(st.lists(st.integers(0, max(published - 1, 0)), max_size=6))
            live = [log[index] for index in sorted(picked) if index < published]
            accepted, is_torn = cursor.accept(live)
            assert is_torn or not accepted or accepted[-1].n == cursor.n
        else:  # a replay of a page
            accepted, is_torn = cursor.accept(log[:published])
            assert not is_torn
        got += accepted
    accepted, _ = cursor.accept(log)
    got += accepted
    assert got == log[after:]
    assert cursor.is_done
    assert cursor.accept(log) == ([], False)


@given(st.data())
def test_what_a_superseded_attempt_publishes_is_never_accepted(data: st.DataObject) -> None:
    """It comes after the newer attempt's start, and so after a replay that includes it."""
    log = data.draw(logs())
    late = data.draw(zombies(log))
    after = data.draw(st.integers(0, len(log) - 1))
    for zombie in late:
        cursor = Cursor(after)
        begun = next(event.n for event in log if event.attempt == zombie.attempt + 1)
        published = data.draw(st.integers(begun, len(log)))
        got, _ = cursor.accept(log[:published])
        assert cursor.accept([zombie])[0] == []
        got += cursor.accept(log)[0]
        assert got == log[after:]


def test_a_hole_is_noticed_and_nothing_beyond_it_is_given() -> None:
    events = [LoggedEvent(1, n, TextDelta(str(n))) for n in range(1, 6)]
    cursor = Cursor()
    assert cursor.accept([events[0], events[2], events[3]]) == ([events[0]], True)
    assert cursor.accept(events) == (events[1:], False)


def test_nothing_follows_the_end() -> None:
    cursor = Cursor()
    end = LoggedEvent(1, 1, FAILED)
    assert cursor.accept([end, LoggedEvent(1, 2, TextDelta("late"))]) == ([end], False)
    assert cursor.is_done


# The hub and the writer, on a real Valkey.


async def start_run(store: RunStore, run_id: str) -> Claim:
    await submit(store, run_id)
    claims = (await store.claim([QUEUE], "w:1", 100)).claims
    claim = next(each for each in claims if each.run_id == run_id)
    assert await store.begin(claim, "w", ttl_s=60)
    return claim


async def speak(writer: EventWriter, run_id: str, count: int, pause_every: int = 50) -> None:
    for n in range(2, count + 2):
        writer.append(run_id, 1, n, TextDelta(text=f"{run_id}:{n}"))
        if n % pause_every == 0:
            await asyncio.sleep(0.001)
    await writer.flush()


async def read_all(hub: EventHub, run_id: str, after: int = 0, pause_s: float = 0.0) -> list[LoggedEvent]:
    got: list[LoggedEvent] = []
    async for batch in hub.tail(run_id, Cursor(after), tick_s=1.0):
        got += batch
        if pause_s:
            await asyncio.sleep(pause_s)
    return got


def truth(run_id: str, count: int, end: RunEvent = COMPLETED) -> list[LoggedEvent]:
    events: list[RunEvent] = [RunStarted("w")]
    events += [TextDelta(text=f"{run_id}:{n}") for n in range(2, count + 2)]
    return [LoggedEvent(1, n, event) for n, event in enumerate([*events, end], start=1)]


async def test_every_tail_gets_everything_while_subscribers_are_killed(
    redis: ArqRedis, store: RunStore
) -> None:
    count, run_ids = 1500, [f"r{n}" for n in range(4)]
    claims = [await start_run(store, run_id) for run_id in run_ids]
    writer, hubs = EventWriter(redis), [EventHub(redis), EventHub(redis)]
    kills = 0

    async def kill_subscribers() -> None:
        nonlocal kills
        while True:
            await asyncio.sleep(0.05)
            kills += await redis.client_kill_filter(_type="pubsub")

    async def speak_and_end(claim: Claim) -> None:
        await speak(writer, claim.run_id, count, pause_every=5)
        await store.finish(claim, 1, COMPLETED)

    async with running(writer.run(), *(hub.run() for hub in hubs)), asyncio.TaskGroup() as group:
        killer = group.create_task(kill_subscribers())
        speakers = [group.create_task(speak_and_end(claim)) for claim in claims]
        tails = [(run_id, 0, group.create_task(read_all(hub, run_id))) for hub in hubs for run_id in run_ids]
        for after in (0, 1, 300, 700):
            await asyncio.sleep(0.1)
            tails += [
                (run_id, after, group.create_task(read_all(hubs[0], run_id, after))) for run_id in run_ids
            ]
        await asyncio.gather(*speakers)
        killer.cancel()
        for run_id, after, tail in tails:
            assert await tail == truth(run_id, count)[after:]
    assert kills > 0
    assert not await redis.pubsub_channels()


@pytest.mark.parametrize("after", [0, 1, 5, 499, 500, 501, 1000, 1201])
async def test_a_finished_run_is_read_from_any_place(redis: ArqRedis, store: RunStore, after: int) -> None:
    claim = await start_run(store, "r")
    writer, hub = EventWriter(redis), EventHub(redis)
    async with running(writer.run(), hub.run()):
        await speak(writer, "r", 1200)
        assert await store.finish(claim, 1, COMPLETED)
        assert await read_all(hub, "r", after) == truth("r", 1200)[after:]


async def test_a_slow_reader_gets_everything(
    redis: ArqRedis, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_tail, "_MAX_BUFFERED", 20)
    claim = await start_run(store, "r")
    writer, hub = EventWriter(redis), EventHub(redis)
    async with running(writer.run(), hub.run()), asyncio.TaskGroup() as group:
        slow = group.create_task(read_all(hub, "r", pause_s=0.02))
        fast = group.create_task(read_all(hub, "r"))
        await asyncio.sleep(0.05)
        await speak(writer, "r", 3000, pause_every=10)
        await store.finish(claim, 1, COMPLETED)
        assert await fast == truth("r", 3000)
        assert await slow == truth("r", 3000)


async def test_silence_is_told(redis: ArqRedis, store: RunStore) -> None:
    claim = await start_run(store, "r")
    hub = EventHub(redis)
    async with running(hub.run()):
        tail = hub.tail("r", Cursor(), tick_s=0.05)
        assert await anext(tail) == truth("r", 0)[:1]
        assert await anext(tail) == []
        assert await anext(tail) == []
        await store.finish(claim, 1, COMPLETED)
        rest = [event async for batch in tail for event in batch]
        assert rest == truth("r", 0)[1:]


async def test_a_zombie_is_heard_by_no_tail(redis: ArqRedis, store: RunStore) -> None:
    old = await start_run(store, "r")
    writer, hub = EventWriter(redis), EventHub(redis)
    async with running(writer.run(), hub.run()), asyncio.TaskGroup() as group:
        early = group.create_task(read_all(hub, "r"))
        await speak(writer, "r", 5)
        await lapse(redis, "r", QUEUE)
        (new,) = (await store.claim([QUEUE], "w:2", 1)).claims
        assert await store.begin(new, "w", ttl_s=60)  # number 7
        late = group.create_task(read_all(hub, "r", after=7))
        later = group.create_task(read_all(hub, "r", after=3))
        await eventually(lambda: len(hub._feeds[b"backline:events:r"]) == 3, "all tails are there")
        await asyncio.sleep(0.1)
        for n in (7, 8, 9):  # refused by the log, but published all the same
            writer.append("r", 1, n, TextDelta(text="zombie"))
            await writer.flush()
        for n in (8, 9):
            writer.append("r", 2, n, TextDelta(text="second"))
            await writer.flush()
        assert not await store.finish(old, 1, FAILED)
        assert await store.finish(new, 2, COMPLETED)
        log = await early
        assert [(each.attempt, each.n) for each in log] == [
            *((1, n) for n in range(1, 7)),
            *((2, n) for n in range(7, 11)),
        ]
        assert TextDelta(text="zombie") not in [each.event for each in log]
        assert await later == log[3:]
        assert await late == log[7:]


async def test_writing_outlives_a_restart_of_valkey(durable_valkey: Valkey) -> None:
    redis = connect(durable_valkey.url)
    store = RunStore(redis, retention_s=60)
    claim = await start_run(store, "r")
    writer, hub = EventWriter(redis), EventHub(redis)

    async def patient_tail() -> list[LoggedEvent]:
        got: list[LoggedEvent] = []
        cursor = Cursor()
        while not got or got[-1].event != COMPLETED:
            try:
                async for batch in hub.tail("r", cursor, tick_s=0.3):
                    got += batch
            except (RedisError, OSError):
                await asyncio.sleep(0.05)
        return got

    async with running(writer.run(), hub.run()), asyncio.TaskGroup() as group:
        tail = group.create_task(patient_tail())
        speaker = group.create_task(speak(writer, "r", 6000, pause_every=10))
        for _ in range(2):
            await asyncio.sleep(0.15)
            await asyncio.to_thread(durable_valkey.kill)
            await asyncio.sleep(0.1)
            await asyncio.to_thread(durable_valkey.start)
        async with asyncio.timeout(20):
            await speaker
            assert await store.finish(claim, 1, COMPLETED)
            assert await tail == truth("r", 6000)
    await redis.aclose()


async def test_a_full_server_delays_events_and_loses_none(redis: ArqRedis, store: RunStore) -> None:
    """Every error but 'out of date' means: not written."""
    claim = await start_run(store, "r")
    writer, hub = EventWriter(redis), EventHub(redis)
    async with running(writer.run(), hub.run()), asyncio.TaskGroup() as group:
        tail = group.create_task(read_all(hub, "r"))
        try:
            await redis.config_set("maxmemory", 1)
            speaker = group.create_task(speak(writer, "r", 300))
            await asyncio.sleep(0.3)
            assert not speaker.done()
        finally:
            await redis.config_set("maxmemory", 0)
        await speaker
        assert await store.finish(claim, 1, COMPLETED)
        assert await tail == truth("r", 300)


async def test_a_writer_that_cannot_write_says_that_it_is_full() -> None:
    writer = EventWriter(connect("redis://127.0.0.1:1"))
    while not writer.is_full:
        writer.append("r", 1, writer._appended + 1, TextDelta(text="x"))
    room = asyncio.create_task(writer.room())
    await asyncio.sleep(0.01)
    assert not room.done()
    room.cancel()
    assert len(writer._pending) < 30_000


async def test_events_for_a_log_that_has_lapsed_leave_no_key(redis: ArqRedis) -> None:
    """A worker that wakes long after its run was forgotten must not make a key that nobody forgets."""
    writer = EventWriter(redis)
    async with running(writer.run()):
        writer.append("forgotten", 1, 7, TextDelta(text="x"))
        await writer.flush()
    assert not await redis.keys()
