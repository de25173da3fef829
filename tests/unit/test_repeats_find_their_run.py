"""Which run a request finds that is made again: the steps in Redis, and the places in a stream."""

from __future__ import annotations

import pytest
from arq.connections import ArqRedis

from api.cursor import BEGIN, Cursor, cursor_of, numbered
from api.errors import ApiError
from shared import redis_keys as keys
from shared.repeats import KeyReusedError, Repeat, RunGoneError, beside, by_key, by_try
from shared.run_store import RunStore
from shared.runs import new_run_id
from tests.unit.support import CANCELLED, request

GONE = (CANCELLED, "The client went away.")


async def submitted(store: RunStore, repeat: Repeat, run_id: str = "") -> str:
    """The id of the run that a request is given."""
    run_id = run_id or new_run_id()
    accepted = await store.submit(run_id, request(), queue_limit=99, ttl_s=60, repeat=repeat)
    return accepted.found.run_id if accepted.found is not None else run_id


def key(asked: bytes = b"asked", scope: str = "tenant") -> Repeat:
    return by_key(scope, "a key", asked, 60)


def tried(*, is_retry: bool, window_s: float = 60) -> Repeat:
    return by_try("tenant", b"asked", window_s, is_retry=is_retry)


async def test_a_key_finds_its_run_and_nobody_elses(store: RunStore) -> None:
    first = await submitted(store, key())
    assert await submitted(store, key()) == first
    assert await submitted(store, key(scope="another")) != first
    with pytest.raises(KeyReusedError):
        await submitted(store, key(b"another"))


async def test_a_key_whose_run_is_gone_starts_nothing(store: RunStore, redis: ArqRedis) -> None:
    await redis.delete(keys.run(await submitted(store, key())))
    with pytest.raises(RunGoneError):
        await submitted(store, key())


async def test_the_last_reader_who_leaves_takes_the_run_along(store: RunStore) -> None:
    first = await submitted(store, key())
    await submitted(store, key())
    await store.leave([first])
    assert not await store.stop(first, "a", *GONE, unread_with=first)
    assert await submitted(store, key()) == first
    await store.leave([first])
    await store.leave([first])
    assert await store.stop(first, "a", *GONE, unread_with=first)
    assert await submitted(store, key()) != first


async def test_a_run_that_was_stopped_on_purpose_is_not_started_again(store: RunStore) -> None:
    first = await submitted(store, key())
    await store.stop(first, "a", CANCELLED, "on request")
    assert await submitted(store, key()) == first


async def test_a_choice_that_was_let_go_takes_the_others_along(store: RunStore) -> None:
    first = await submitted(store, key())
    second = beside(first, 1)
    one_beside = Repeat("beside", "", "", 0)
    await submitted(store, one_beside, second)
    await store.leave([first, second])
    assert await store.stop(second, "a", *GONE, unread_with=first)
    assert await submitted(store, key()) != first


async def test_each_retry_finds_a_try_of_its_own(store: RunStore) -> None:
    tries = [await submitted(store, tried(is_retry=False)) for _ in range(3)]
    await store.was_told(tried(is_retry=False), tries[1])
    assert len(set(tries)) == 3
    found = {await submitted(store, tried(is_retry=True)) for _ in range(2)}
    assert found == {tries[0], tries[2]}


async def test_a_retry_without_a_try_starts_a_run_that_the_next_one_finds(store: RunStore) -> None:
    first = await submitted(store, tried(is_retry=True))
    assert await submitted(store, tried(is_retry=True)) == first


async def test_a_retry_is_not_given_what_ended_long_ago_or_was_let_go(
    store: RunStore, redis: ArqRedis
) -> None:
    old = await submitted(store, tried(is_retry=False))
    await store.stop(old, "a", CANCELLED, "on request")
    await redis.hset(keys.run(old), "ended", "1")  # type: ignore[misc]
    let_go = await submitted(store, tried(is_retry=False))
    await store.leave([let_go])
    await store.stop(let_go, "a", *GONE, unread_with=let_go)
    assert await submitted(store, tried(is_retry=True)) not in {old, let_go}


def test_a_cursor_gives_exactly_the_rest() -> None:
    frames = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
    whole = b"data: 1\nid: 7.2\n\ndata: 2\nid: 7.1\n\ndata: 3\nid: 7\n\n"
    assert numbered(frames, 7, BEGIN) == whole
    for seen in (whole.split(b"\n\n")[:-1])[0:3]:
        place = seen.rpartition(b"id: ")[2].decode()
        assert whole.partition(seen + b"\n\n")[2] == numbered(frames, 7, cursor_of(place, "after"))
    assert numbered(frames, 8, Cursor(7)) != b""
    assert numbered(frames, 6, Cursor(7, 2)) == b""
    # What came before as a sign of life does not move the places of the rest.
    assert numbered(b"data: 2\n\ndata: 3\n\n", 7, Cursor(7, 1)) == b"data: 3\nid: 7\n\n"


@pytest.mark.parametrize("text", ["", "x", "-1", "1.", "1.x", "1" * 13])
def test_a_cursor_is_a_number_or_refused(text: str) -> None:
    with pytest.raises(ApiError):
        cursor_of(text, "after")
