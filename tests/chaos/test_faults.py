"""One fault at a time, and what clients may see of it: a pause at most."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any

import httpx
import psutil
import pytest
from redis.asyncio import Redis

from chaos.clients import Clients
from chaos.history import Kind
from chaos.proxy import Trouble
from chaos.reach import clock_from_now
from chaos.stand import Part, Stand
from shared import redis_keys as keys
from tests.chaos.support import CHAT, Stream, all_whole, counting, lapse, log_of, streams, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

_OUTAGE_S = 2.0
_LASTING: tuple[Kind, ...] = ("stream", "resumed", "whole", "poll")
KINDS: tuple[Trouble, ...] = ("stall", "cut")


@contextmanager
def cut_off(kind: Trouble, *parts: Part) -> Iterator[None]:
    proxies = [part.proxy for part in parts if part.proxy is not None]
    for proxy in proxies:
        proxy.trouble(kind)
    yield
    for proxy in proxies:
        proxy.trouble("none")


async def test_streams_outlive_a_kill_of_valkey(stand: Stand) -> None:
    pids = [part.pid for part in (*stand.apis, *stand.workers)]
    opened = await streams(stand, 6, 50, 60)
    stand.valkey.send(signal.SIGKILL)
    await stand.valkey.ended()
    await asyncio.sleep(_OUTAGE_S)
    stand.start_valkey()
    await all_whole(opened, 50)
    assert [part.pid for part in (*stand.apis, *stand.workers) if part.runs] == pids
    for each in opened:
        assert {event.get("attempt") for event in await log_of(stand, each.run_id)} == {1}


async def test_nobody_notices_a_partition_of_a_second(stand: Stand) -> None:
    opened = await streams(stand, 4, 80, 60)
    for kind in KINDS:
        with cut_off(kind, *stand.apis, *stand.workers):
            await asyncio.sleep(1)
        await asyncio.sleep(0.5)
    await all_whole(opened, 80)
    for each in opened:
        assert {event.get("attempt") for event in await log_of(stand, each.run_id)} == {1}


async def test_a_partition_of_10_s_costs_a_pause(stand: Stand) -> None:
    """The worker's leases of 8 s lapse, and the other takes its runs; what it wrote meanwhile is refused."""
    opened = await streams(stand, 4, 80, 100)
    with cut_off("stall", stand.workers[0], stand.apis[0]):
        await asyncio.sleep(10)
    await all_whole(opened, 80)


@pytest.mark.timeout(120)
async def test_a_worker_that_is_cut_off_ends_its_agents_before_others_begin_them(stand: Stand) -> None:
    opened = await streams(stand, 2, 120, 100)
    alone = next(worker for worker in stand.workers if _clis(worker.pid))
    other = next(worker for worker in stand.workers if worker is not alone)
    runs = [each.run_id for each in opened]
    async with stand.redis() as redis:
        with cut_off("stall", alone):
            await until(lambda: not _clis(alone.pid), keys.LEASE_MS / 1000)
            assert {await _attempt(redis, run_id) for run_id in runs} == {b"1"}
            await until(lambda: len(_clis(other.pid)) == len(runs), 30)
            assert not _clis(alone.pid)
    await all_whole(opened, 120)
    with cut_off("cut", other):  # who was alone takes runs again
        again = await streams(stand, 1, 5, 10)
        await all_whole(again, 5)


@pytest.mark.timeout(150)
async def test_replacing_every_process_under_load_loses_nothing(stand: Stand) -> None:
    """One after the other is asked to end and started again; nobody waits for a second start."""
    clients = Clients(stand.urls, random.Random(5), clock_from_now(), "agent", kinds=_LASTING)  # noqa: S311
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(clients.ask_until(stop, 0.2))
        for pair in zip(stand.workers, stand.apis, strict=True):
            await until(lambda: any(not seen.ended and seen.run_id for seen in clients.seen), 20)
            for part in pair:
                part.send(signal.SIGTERM)
            for part in pair:
                assert await part.ended() in {0, -signal.SIGTERM}
                part.start()
            await stand.ready(2)
        stop.set()
    assert len(clients.seen) > 4
    for seen in clients.seen:
        assert (seen.outcome, seen.numbers) == ("completed", list(range(seen.tokens))), seen
        run_id = seen.run_id or "run_" + seen.response_id.removeprefix("resp_")
        assert {event["attempt"] for event in await log_of(stand, run_id)} == {1}


async def test_what_a_worker_writes_that_slept_through_its_lease_is_refused(stand: Stand) -> None:
    opened = await streams(stand, 1, 80, 60)
    holder = next(worker for worker in stand.workers if _clis(worker.pid))
    old = {process.pid for process in _clis(holder.pid)}
    holder.send(signal.SIGSTOP)
    try:
        async with stand.redis() as redis:
            await lapse(redis, opened[0].run_id)
            await _until_attempt(redis, opened[0].run_id, b"2")
        said = len(opened[0].numbers)
        await until(lambda: len(opened[0].numbers) > said + 5, 30)
    finally:
        holder.send(signal.SIGCONT)
    await until(lambda: not any(psutil.pid_exists(pid) for pid in old), 10)  # it gives up its own CLI
    await all_whole(opened, 80)
    log = await log_of(stand, opened[0].run_id)
    taken_over = next(event["n"] for event in log if event["attempt"] == 2)
    assert all(event["attempt"] == (2 if event["n"] >= taken_over else 1) for event in log)
    assert [event["type"] for event in log].count("ended") == 1


async def test_a_full_valkey_takes_no_new_runs_and_loses_none(stand: Stand) -> None:
    opened = await streams(stand, 3, 60, 60)
    async with stand.redis() as redis, httpx.AsyncClient(base_url=stand.urls[0], timeout=30) as http:
        try:
            await redis.config_set("maxmemory", 1)
            refused = await http.post(CHAT, json=counting(1, 0))
            assert refused.status_code == 503
            assert refused.headers["x-should-retry"] == "true"
            assert int(refused.headers["retry-after"]) <= 60
            await asyncio.sleep(1)
        finally:
            await redis.config_set("maxmemory", 0)
        await all_whole(opened, 60)
        answer = await http.post(CHAT, json=counting(3, 0))
        assert answer.json()["choices"][0]["message"]["content"] == "t0 t1 t2"


async def test_slow_readers_cost_an_api_no_memory_and_others_no_time(stand: Stand) -> None:
    count, size = 6, 2000
    api = psutil.Process(stand.apis[0].pid)
    slow = [await _open_and_read_nothing(stand.urls[0], counting(size, 0.2)) for _ in range(count)]
    before = api.memory_info().rss
    await _all_have_ended(stand, count)  # nobody waits for who does not read
    grown = api.memory_info().rss - before
    fast = Stream(stand.urls[0], counting(20, 0))
    await all_whole([fast], 20, 20)
    for reader, writer in slow:
        text = (await reader.read()).decode()
        writer.close()
        said = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        words = "".join(c["delta"].get("content") or "" for chunk in said for c in chunk["choices"])
        assert words.split() == [f"t{n}" for n in range(size)]
        assert "data: [DONE]" in text
    assert grown < 60 * 1024 * 1024


async def test_a_cancel_at_any_moment_ends_a_run_once(stand: Stand) -> None:
    """While it waits, begins, speaks or ends; by several at a time, on either API."""
    moments = random.Random(7)  # noqa: S311 - to be repeated
    urls = cycle(stand.urls)

    async def race(http: httpx.AsyncClient) -> None:
        body = {"model": "agent", "input": counting(20, 20)["messages"], "background": True}
        made = (await http.post(f"{next(urls)}/v1/responses", json=body)).json()
        await asyncio.sleep(moments.random() * 3)
        where = f"/v1/responses/{made['id']}"
        told = [http.post(f"{next(urls)}{where}/cancel") for _ in range(3)]
        answers = [answer.json() for answer in await asyncio.gather(*told)]
        async with asyncio.timeout(30):
            while (end := (await http.get(f"{next(urls)}{where}")).json())["status"] not in _ENDED:
                await asyncio.sleep(0.1)
        assert {answer["status"] for answer in answers} <= {end["status"], "in_progress", "queued"}
        assert (await http.post(f"{next(urls)}{where}/cancel")).json()["status"] == end["status"]
        log = await log_of(stand, "run_" + made["id"].removeprefix("resp_"))
        assert [event["state"] for event in log if event["type"] == "ended"] == [end["status"]]

    async with httpx.AsyncClient(timeout=30) as http:
        await asyncio.gather(*(race(http) for _ in range(16)))


_ENDED = {"completed", "cancelled"}


async def _until_attempt(redis: Redis, run_id: str, number: bytes) -> None:
    async with asyncio.timeout(20):
        while await _attempt(redis, run_id) != number:
            await asyncio.sleep(0.05)


async def _attempt(redis: Redis, run_id: str) -> bytes | None:
    found: list[bytes | None] = await redis.hmget(keys.run(run_id), ["attempt"])  # type: ignore[misc]
    return found[0]


def _clis(worker: int) -> list[psutil.Process]:
    return psutil.Process(worker).children()


async def _open_and_read_nothing(
    url: str, body: dict[str, Any]
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = httpx.URL(url).host, httpx.URL(url).port
    reader, writer = await asyncio.open_connection(host, port, limit=1024)
    content = json.dumps({**body, "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    return reader, writer


async def _all_have_ended(stand: Stand, count: int) -> None:
    async with httpx.AsyncClient(base_url=stand.urls[1], timeout=30) as http, asyncio.timeout(45):
        while True:
            runs = (await http.get("/v1/runs", params={"limit": count})).json()["data"]
            if len(runs) == count and all(run["state"] == "completed" for run in runs):
                return
            await asyncio.sleep(0.2)
