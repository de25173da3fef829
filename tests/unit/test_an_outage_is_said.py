"""What is tried over and over and is away is said at once, then ever less often, and its end once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from shared import subscriber
from shared.outage import Outage
from shared.redis_wire import RedisWire
from shared.subscriber import Subscriber
from tests.unit.support import Valkey

AWAY = OSError("Connection refused")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_hour_of_tries_is_an_hour_of_few_lines() -> None:
    clock = Clock()
    outage = Outage("redis_away", clock)
    with capture_logs() as lines:
        for _ in range(7200):
            outage.goes_on(AWAY)
            clock.now += 0.5
        outage.is_over()
        outage.is_over()
    warnings = [line for line in lines if line["event"] == "redis_away"]
    assert [line["for_s"] for line in warnings[:4]] == [0, 5, 15, 35]
    assert len(warnings) < 70
    assert sum(line["unsaid"] for line in lines) + len(warnings) == 7200
    over = lines[-1]
    assert (over["event"], over["log_level"], over["after_s"]) == ("redis_away_over", "info", 3600)


def test_the_next_one_is_said_at_once() -> None:
    clock = Clock()
    outage = Outage("redis_away", clock)
    with capture_logs() as lines:
        outage.goes_on(AWAY)
        outage.is_over()
        clock.now += 0.1
        outage.goes_on(AWAY)
    assert [line["event"] for line in lines] == ["redis_away", "redis_away_over", "redis_away"]


async def test_a_subscriber_says_that_redis_is_away_and_back(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber, "_LONGEST_RECONNECT_S", 0.02)
    monkeypatch.setattr(subscriber, "_RECONNECT_S", 0.01)
    tries = 0
    is_back = asyncio.Event()
    really_open = RedisWire.open

    async def open_at_last(*given: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 20:
            raise AWAY
        return await really_open(*given)

    monkeypatch.setattr(RedisWire, "open", open_at_last)
    redis = Redis.from_url(valkey.url)
    listening = Subscriber(redis, lambda *_: None, lambda _: is_back.set())
    listening.add(["somewhere"])
    with capture_logs() as lines:
        task = asyncio.create_task(listening.run())
        async with asyncio.timeout(20):
            await is_back.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await redis.aclose()
    events = [line["event"] for line in lines]
    assert events == ["subscriber_not_connected", "subscriber_not_connected_over"]
