"""Whoever is killed while a batch runs, each line stands in its files once; and it fills no memory."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle

import psutil
import pytest
from openai import AsyncOpenAI
from openai.types import Batch

from scripted_model import fail, say, script, stall
from tests.conftest import NewStack
from tests.support.batches import OVER, Line, begin, both, counts, end_of, line, said, until
from tests.support.stack import Stack

LINES = int(os.environ.get("BATCH_LINES", "60"))
"""How long the batch is; a soak asks for a thousand."""
KILL_EVERY = max(10, LINES // 14)
"""Lines between two deaths: the longer the batch, the more."""
WITHIN_S = 60.0 + 4 * LINES
SLOTS = 4
MANY = 10_000
PADDING = "x" * 500


def wished(marker: str, n: int) -> Line:
    """A line that is answered, one that is refused at once, or one whose run fails."""
    name, tag = f"line-{n}", f"{marker}-{n}."
    match n % 10:
        case 3:
            return line(name, tag, temperature=9)
        case 6:
            return line(name, tag, script(fail(400, message="No.")))
        case 8:
            return line(name, tag, model="nobody")
        case _:
            # The scripted model cannot go on in mid-answer: it would say all of it once more.
            return line(name, tag, say(f"Answer {n}."), backline={"on_worker_loss": "rerun"})


class Deaths:
    """Kills one process after the other, and starts another in its place."""

    def __init__(self, stack: Stack, replica: str) -> None:
        self.stack = stack
        self.replica = replica
        self.url = stack.url
        self.workers_lost = 0
        self._plan = self._in_turns()

    def next(self) -> None:
        next(self._plan)()

    def _in_turns(self) -> Iterator[Callable[[], None]]:
        yield self.worker
        yield self.coordinator  # it was asked for the batch, and rang its own bell
        yield self.redis
        yield self.other_api
        yield from cycle([self.worker])

    def worker(self) -> None:
        self.workers_lost += 1
        self.stack.workers.pop(0).kill()
        self.stack.start_worker()

    def coordinator(self) -> None:
        self.stack.api.kill()
        self.url = self.replica

    def redis(self) -> None:
        self.stack.redis.kill()
        self.stack.start_redis()

    def other_api(self) -> None:
        self.stack.start_api()
        self.stack.replicas[0].kill()
        self.url = self.stack.url


@pytest.mark.timeout(2 * WITHIN_S)
async def test_each_line_is_answered_once_whoever_is_killed(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=SLOTS, workers=2, was_killed=True, is_durable=True)
    deaths = Deaths(stack, stack.start_replica())
    stack.wait_listening(deaths.replica)
    lines = [wished(marker, n) for n in range(LINES)]
    async with stack.sdk() as sdk:
        batch = await begin(sdk, lines)
    for done in range(KILL_EVERY, LINES - KILL_EVERY, KILL_EVERY):
        async with at(deaths.url) as sdk:
            await until(sdk, batch, has_done(done), WITHIN_S)
        deaths.next()
    async with at(deaths.url) as sdk:
        batch = await end_of(sdk, batch, WITHIN_S)
        outputs, errors = await both(sdk, batch)
    assert batch.status == "completed"
    assert sorted([*outputs, *errors]) == sorted(each["custom_id"] for each in lines)
    assert counts(batch) == (LINES, len(outputs), len(errors))
    assert {name: said(result) for name, result in outputs.items()} == {
        f"line-{n}": f"Answer {n}." for n in range(LINES) if n % 10 not in {3, 6, 8}
    }
    statuses = {name: result["response"]["status_code"] for name, result in errors.items()}
    assert statuses == {f"line-{n}": 404 if n % 10 == 8 else 400 for n in range(LINES) if n % 10 in {3, 6, 8}}
    assert_no_more_repeats(stack, marker, at_most=deaths.workers_lost * SLOTS)


def has_done(lines: int) -> Callable[[Batch], bool]:
    return lambda batch: sum(counts(batch)[1:]) >= lines


def assert_no_more_repeats(stack: Stack, marker: str, *, at_most: int) -> None:
    """A line is executed again only when its worker died.

    A line whose run fails does not count: the CLI (2.1) asks several times before it believes a 400.
    """
    seen = [call.everything for call in stack.model.calls(marker)]
    asked = Counter(n for n in range(LINES) if n % 10 != 6 for each in seen if f"{marker}-{n}." in each)
    assert asked
    assert sum(asked.values()) - len(asked) <= at_most, asked


def at(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=5, timeout=50)


class Sizes:
    """The most that the API and Redis have grown by, in bytes."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._api, self._redis = self._now()
        self.api = self.redis = 0

    def look(self) -> bool:
        """Take note; gives `True`."""
        api, redis = self._now()
        self.api, self.redis = max(self.api, api - self._api), max(self.redis, redis - self._redis)
        return True

    def _now(self) -> tuple[int, int]:
        with self._stack.redis_client() as client:
            used = client.info("memory")["used_memory"]  # type: ignore[index]
        return psutil.Process(self._stack.api.pid).memory_info().rss, int(used)


async def test_ten_thousand_lines_fill_no_memory(new_stack: NewStack, marker: str) -> None:
    """Neither while they wait behind slow ones, nor while they are done as fast as can be."""
    stack = new_stack(slots=2)
    async with stack.sdk() as sdk:
        await end_of(sdk, await begin(sdk, [line("first", temperature=9)]))  # what is loaded at first use is
        sizes = Sizes(stack)
        slow = [line(f"{n}", f"{marker} {n} {PADDING}", script(stall(300))) for n in range(MANY)]
        batch = await begin(sdk, slow)
        await until(sdk, batch, lambda _: sizes.look() and bool(stack.cli_processes()))
        for _ in range(20):
            assert sizes.look()
            await asyncio.sleep(0.05)
        assert counts(await sdk.batches.retrieve(batch.id)) == (MANY, 0, 0)
        assert stack.waiting("batch:agent") <= 4
        assert sizes.redis / MANY < 100, "what waits does so in its file"
        await sdk.batches.cancel(batch.id)
        batch = await end_of(sdk, batch)
        sizes.look()
        assert counts(batch) == (MANY, 0, MANY)
        assert len((await both(sdk, batch))[1]) == MANY
        quick = [line(f"{n}", PADDING, temperature=9) for n in range(MANY)]
        batch = await begin(sdk, quick)
        batch = await until(sdk, batch, lambda batch: sizes.look() and batch.status in OVER)
        assert counts(batch) == (MANY, 0, MANY)
    assert sizes.redis < 8_000_000, "so many results wait there at most, and go to the storage"
    assert sizes.api < 30_000_000
