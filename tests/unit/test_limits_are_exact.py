"""Limits hold to the run, whatever runs at the same time; they are a plain model's."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from arq.connections import ArqRedis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from api.rates import go_duration, rate_headers
from shared import redis_keys as keys
from shared.accounts import Accounts, LimitReachedError, estimated_tokens
from shared.keys import Limits
from shared.redis import connect
from shared.run_events import RunCompleted, Usage
from shared.run_store import RunStore
from shared.runs import new_run_id
from tests.unit.support import CANCELLED, Valkey, request

KEY = "key_1"


async def submit(store: RunStore, limits: Limits, *, key: str = KEY) -> str:
    run_id = new_run_id()
    await store.submit(run_id, replace(request(), key=key), queue_limit=1000, ttl_s=60, limits=limits)
    return run_id


async def refusal(store: RunStore, limits: Limits) -> str:
    with pytest.raises(LimitReachedError) as caught:
        await submit(store, limits)
    return caught.value.limit


def ending(tokens: int, usd: float) -> RunCompleted:
    used = Usage(input_tokens=tokens // 2, output_tokens=tokens - tokens // 2, cost_usd=usd)
    return RunCompleted(finish="stop", usage=used, session_id="s", model="m")


async def run_to_end(store: RunStore, tokens: int, usd: float) -> None:
    """Take the run that is due first and end it."""
    (claim,) = (await store.claim([keys.queue("a")], "w:1", 1)).claims
    attempt = await store.begin(claim, "w", ttl_s=60)
    assert attempt is not None
    assert await store.finish(claim, attempt.number, ending(tokens, usd))
    assert not await store.finish(claim, attempt.number, ending(tokens, usd))  # once


async def test_of_fifty_at_once_over_two_replicas_exactly_as_many_pass_as_may(
    redis: ArqRedis, valkey: Valkey
) -> None:
    other = connect(valkey.url)
    stores = [RunStore(redis, retention_s=60), RunStore(other, retention_s=60)]
    for round_ in range(5):
        limits = Limits(requests_per_minute=20)
        tried = await asyncio.gather(
            *(submit(stores[n % 2], limits, key=f"key_{round_}") for n in range(50)), return_exceptions=True
        )
        assert sum(isinstance(each, str) for each in tried) == 20
        assert all(isinstance(each, str | LimitReachedError) for each in tried)
    await other.aclose()


@pytest.mark.parametrize("name", ["concurrent_runs", "queued_runs"])
async def test_a_place_is_free_again_once_a_run_has_ended(store: RunStore, name: str) -> None:
    limits = Limits(**{name: 1})
    run_id = await submit(store, limits)
    assert await refusal(store, limits) == name
    assert await store.stop(run_id, "a", CANCELLED, "why")
    await submit(store, limits)


async def test_a_run_that_has_begun_waits_no_more(store: RunStore) -> None:
    limits = Limits(queued_runs=1)
    await submit(store, limits)
    (claim,) = (await store.claim([keys.queue("a")], "w:1", 1)).claims
    assert await store.begin(claim, "w", ttl_s=60) is not None
    await submit(store, limits)
    assert await refusal(store, limits) == "queued_runs"


async def test_a_place_of_a_run_whose_record_was_lost_is_free_again(redis: ArqRedis, store: RunStore) -> None:
    limits = Limits(concurrent_runs=1)
    await redis.delete(keys.run(await submit(store, limits)))
    await submit(store, limits)


async def test_what_was_used_takes_the_place_of_what_was_reserved(redis: ArqRedis, store: RunStore) -> None:
    limits = Limits(tokens_per_minute=2_000, tokens_per_day=100_000, usd_per_day=1.0)
    reserved = estimated_tokens(request())
    await submit(store, limits)
    assert (await Accounts(redis).standing(KEY)).minute_tokens == reserved
    await run_to_end(store, tokens=1_900, usd=0.6)
    standing = await Accounts(redis).standing(KEY)
    assert (standing.minute_tokens, standing.day_tokens) == (1_900, 1_900)
    assert (standing.day_usd, standing.month_usd) == (600_000, 600_000)
    assert await refusal(store, limits) == "tokens_per_minute"
    assert await refusal(store, Limits(usd_per_day=1.0)) == "usd_per_day"  # the last one's cost is reserved
    await submit(store, Limits(usd_per_month=1.2))


async def test_a_refused_run_counts_for_nothing(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, Limits(requests_per_day=1))
    before = await Accounts(redis).standing(KEY)
    assert await refusal(store, Limits(requests_per_day=1)) == "requests_per_day"
    after = await Accounts(redis).standing(KEY)
    assert replace(after, now_ms=0, minute=0) == replace(before, now_ms=0, minute=0)


async def test_windows_end_where_the_calendar_says(redis: ArqRedis, store: RunStore) -> None:
    await submit(store, Limits())
    standing = await Accounts(redis).standing(KEY)
    seconds, _ = await redis.time()
    assert standing.day == seconds // 86_400
    assert 0 < standing.reset_ms("requests_per_minute") <= 60_000
    assert 0 < standing.reset_ms("usd_per_day") <= 86_400_000
    begins = standing.now_ms + standing.reset_ms("requests_per_month")
    assert begins % 86_400_000 == 0
    year, month = divmod(standing.month - 1, 12)
    assert replace(standing, now_ms=begins, month=12 * year + month + 2).reset_ms("usd_per_month") > 0


class Model:
    """The same in plain Python, and time that goes by when it is told to."""

    def __init__(self, limits: dict[str, int]) -> None:
        self.limits = limits
        self.used = dict.fromkeys(limits, 0)
        self.open = 0

    def submit(self) -> str:
        asked = {name: self.used[name] + 1 for name in self.limits if name != "concurrent_runs"}
        asked["concurrent_runs"] = self.open + 1
        order = Limits.__struct_fields__
        for name in sorted(asked, key=order.index):
            if asked[name] > self.limits[name]:
                return name
        for name in self.used:
            self.used[name] += 1
        self.open += 1
        return ""

    def forget(self, window: str) -> None:
        for name in self.used:
            if name.endswith(window):
                self.used[name] = 0


class Step(NamedTuple):
    kind: str


STEPS = st.lists(
    st.sampled_from(["submit", "submit", "submit", "end", "minute", "day", "month"]).map(Step), max_size=30
)
BOUNDS = st.fixed_dictionaries(
    {
        name: st.integers(1, 6)
        for name in ("requests_per_minute", "requests_per_day", "requests_per_month", "concurrent_runs")
    }
)


def _ago(window: str, now_s: int) -> dict[str, int]:
    """The field that makes a window one of long ago."""
    return {window: now_s // 86_400 - 1 if window == "day" else 0}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, bounds=BOUNDS)
async def test_limits_are_those_of_a_plain_model(
    redis: ArqRedis, store: RunStore, steps: list[Step], bounds: dict[str, Any]
) -> None:
    await redis.flushall()
    model = Model(bounds)
    for step in steps:
        if step.kind == "submit":
            expected = model.submit()
            if expected:
                assert await refusal(store, Limits(**bounds)) == expected
            else:
                await submit(store, Limits(**bounds))
        elif step.kind == "end":
            if model.open:
                await run_to_end(store, tokens=3, usd=0.01)
                model.open -= 1
        elif await redis.exists(keys.account(KEY)):  # the window began long ago
            seconds, _ = await redis.time()
            await redis.hset(keys.account(KEY), mapping=_ago(step.kind, seconds))  # type: ignore[misc]
            model.forget(step.kind)


async def test_headers_tell_of_the_limit_that_leaves_the_least(redis: ArqRedis, store: RunStore) -> None:
    limits = Limits(requests_per_minute=10, requests_per_day=3, tokens_per_minute=5_000)
    await submit(store, limits)
    headers = rate_headers(limits, await Accounts(redis).standing(KEY))
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "2"
    assert headers["x-ratelimit-remaining-tokens"] == str(5_000 - estimated_tokens(request()))


@pytest.mark.parametrize(
    ("ms", "said"),
    [(0, "0ms"), (120, "120ms"), (1_500, "1.5s"), (60_000, "1m0s"), (86_341_000, "23h59m1s")],
)
def test_times_are_written_as_go_writes_them(ms: int, said: str) -> None:
    assert go_duration(ms) == said
