"""Valkey is killed and its replica takes its place: what was accepted, what was said, and who waits."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI
from redis.asyncio import Redis

from chaos.products import backline
from chaos.proxy import FaultProxy
from chaos.stand import Programs, Stand
from tests.chaos.support import Stream, all_whole, assert_idle, counting, log_of, streams, until
from tests.support.batches import begin, end_of, line, results

pytestmark = pytest.mark.timeout(120)

_ANSWER_S = 30
_LAG_S = 0.6
_SETTINGS = {"warm": 0, "max_live": 0, "slots": 12, "upstream_retries": 0}


class Pair:
    """A stand whose Valkey has a replica, and the line between the two."""

    def __init__(self, stand: Stand, link: FaultProxy, replica: Path) -> None:
        self.stand = stand
        self.link = link
        self._replica = replica

    async def is_level(self) -> None:
        """Wait until the replica has all there is."""
        async with self.stand.redis() as redis, asyncio.timeout(20):
            while True:
                await redis.publish("level", b"")
                if await redis.wait(1, 100):
                    return

    async def fail_over(self) -> None:
        """End the primary as a crash does, promote the replica, and lead everybody there."""
        old = self.stand.valkey
        old.send(signal.SIGKILL)
        await old.ended()
        async with Redis(unix_socket_path=str(self._replica), socket_timeout=10) as redis:
            await redis.replicaof("NO", "ONE")
        self.stand.fail_over(self._replica)

    async def background(self, count: int, pace_ms: float) -> str:
        """A response in the background that is to count; gives its id once it is accepted."""
        body = {"model": "agent", "input": counting(count, pace_ms)["messages"], "background": True}
        async with httpx.AsyncClient(base_url=self.stand.urls[0], timeout=30) as http:
            answer = await http.post("/v1/responses", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def end_of(self, response_id: str) -> tuple[str, str]:
        """How a response has ended, and what it says."""
        async with (
            httpx.AsyncClient(base_url=self.stand.urls[1], timeout=30) as http,
            asyncio.timeout(_ANSWER_S),
        ):
            while True:
                answer = await http.get(f"/v1/responses/{response_id}")
                said = answer.json()
                if answer.status_code == 404:
                    return "unknown", ""
                if answer.status_code == 200 and said["status"] not in {"queued", "in_progress"}:
                    return said["status"], _text(said)
                await asyncio.sleep(0.1)


@asynccontextmanager
async def pair_of(parts: Programs, **settings: Any) -> AsyncIterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="bl-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        async with AsyncExitStack() as stack:
            stand = Stand(Path(directory), parts, backline({**_SETTINGS, **settings}))
            await stand.start(stack, apis=2, workers=1)
            link = await stack.enter_async_context(FaultProxy(stand.socket))
            _, replica = stand.start_replica(link.port)
            pair = Pair(stand, link, replica)
            await pair.is_level()
            yield pair
            await assert_idle(stand)
            assert all(part.runs for part in stand.parts)


async def test_what_replicas_have_is_kept(parts: Programs) -> None:
    """Nothing counts as accepted before, and what the replica lacks of an answer its worker says again."""
    async with pair_of(parts, redis_replicas=1, redis_replicas_wait_s=2) as pair:
        stand = pair.stand
        opened = await streams(stand, 2, 150, 50)
        early = await pair.background(100, 50)
        sdk = AsyncOpenAI(base_url=f"{stand.urls[0]}/v1", api_key="unused", max_retries=0, timeout=30)
        async with sdk:
            words = counting(60, 50)["messages"][0]["content"]
            batch = await begin(sdk, [line("a", words), line("b", words)])
            pair.link.trouble("stall")
            asked = asyncio.create_task(pair.background(20, 50))
            said = len(opened[0].numbers)
            await asyncio.sleep(_LAG_S)
            assert not asked.done()
            assert len(opened[0].numbers) > said  # what is said does not wait
            pair.link.trouble("none")
            late = await asked
            pair.link.trouble("stall")
            await asyncio.sleep(_LAG_S)
            await pair.fail_over()
            await all_whole(opened, 150, _ANSWER_S)
            assert await pair.end_of(early) == ("completed", _counted(100))
            assert await pair.end_of(late) == ("completed", _counted(20))
            ended = await end_of(sdk, batch, _ANSWER_S)
            assert (ended.status, ended.request_counts and ended.request_counts.completed) == ("completed", 2)
            assert {each["custom_id"] for each in await results(sdk, ended.output_file_id)} == {"a", "b"}
        for each in opened:
            log = await log_of(stand, each.run_id)
            assert [event["n"] for event in log] == list(range(1, len(log) + 1))
            assert {event["attempt"] for event in log} == {1}
        assert "log_mended" in stand.workers[0].log.read_text()

        # The new primary has no replica: that costs a wait and no run, and is said.
        assert await pair.end_of(await pair.background(3, 0)) == ("completed", _counted(3))
        async with httpx.AsyncClient(base_url=stand.urls[0], timeout=30) as http:
            told = (await http.get("/metrics")).text
        assert "backline_redis_replicas_missed_total" in told
        assert "backline_redis_replicas_missed_total 0" not in told
        assert "replicas_missed" in stand.apis[0].log.read_text()


async def test_without_replicas_to_wait_for_what_they_lack_is_lost_and_everybody_hears_of_it(
    parts: Programs,
) -> None:
    async with pair_of(parts) as pair:
        stand = pair.stand
        opened = await streams(stand, 2, 100, 50)
        await pair.is_level()
        pair.link.trouble("stall")
        lost = await pair.background(100, 50)
        unlucky = Stream(stand.urls[0], counting(200, 50))
        await until(lambda: len(unlucky.numbers) > 2, 20)
        await pair.fail_over()
        async with asyncio.timeout(_ANSWER_S):
            await unlucky.task
        assert unlucky.error is not None
        assert unlucky.error["code"] == "run_lost"
        assert unlucky.numbers == list(range(len(unlucky.numbers)))
        assert await pair.end_of(lost) == ("unknown", "")
        await all_whole(opened, 100, _ANSWER_S)
        await stand.ready(1)
        await all_whole(await streams(stand, 2, 5, 10), 5)


def _counted(count: int) -> str:
    return " ".join(f"t{n}" for n in range(count))


def _text(response: dict[str, Any]) -> str:
    return "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    ).strip()
