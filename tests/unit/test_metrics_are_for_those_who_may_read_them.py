"""Who is shown the metrics, on an API and on a worker, and that nobody makes series by asking."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis.exceptions import ConnectionError as RedisConnectionError

from shared.keys import Grant, KeyStore
from shared.metrics import ProcessMetrics, Tallies
from shared.redis import connect
from shared.settings import Settings
from tests.unit.support import Valkey, running, until
from tests.unit.support_api import announce, bearer, serving
from worker.listener import ListenerError, MetricsListener
from worker.metrics import WorkerMetrics

NEW = "a-name-that-nobody-has-given"


@pytest.fixture
def keys(redis: ArqRedis) -> KeyStore:
    return KeyStore(redis)


async def look() -> None:
    """Nothing to look at."""


@asynccontextmanager
async def shown(keys: KeyStore, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A worker's metrics."""
    chosen = Settings(**{"metrics_port": 0, **settings})
    listener = MetricsListener(WorkerMetrics(["agent"]), look, keys, chosen)
    port = listener.address.rpartition(":")[2]
    async with (
        running(listener.run()),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as worker,
    ):
        yield worker


@pytest.mark.parametrize("path", ["/metrics", "/metrics/workers"])
async def test_an_api_asks_for_a_key_that_may(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore, path: str
) -> None:
    await announce(redis)
    scopes: dict[tuple[Any, ...], int] = {
        ("metrics",): 200,
        ("admin",): 200,
        ("run", "read"): 403,
    }
    async with serving(valkey.url, auth="on", host="0.0.0.0") as api:
        assert (await api.get(path)).status_code == 401
        for scope, status in scopes.items():
            _, secret = await keys.create(Grant(scopes=scope))
            answer = await api.get(path, headers=bearer(secret))
            assert answer.status_code == status, scope
            assert status == 200 or "backline_" not in answer.text


async def test_a_key_for_metrics_opens_nothing_else(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis)
    _, secret = await keys.create(Grant(scopes=("metrics",)))
    async with serving(valkey.url, auth="on") as api:
        for path in ("/v1/models", "/v1/runs", "/stats", "/v1/admin/usage", "/v1/admin/keys"):
            assert (await api.get(path, headers=bearer(secret))).status_code == 403


async def test_no_tenant_and_no_key_is_named(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis, projects=("proj_of_a_tenant",))
    record, secret = await keys.create(Grant(name=NEW, tenant="a-tenant", scopes=("run", "read", "admin")))
    async with serving(valkey.url, auth="on") as api:
        await api.post("/v1/conversations", headers=bearer(secret), json={})
        said = (await api.get("/metrics", headers=bearer(secret))).text
    assert 'route="/v1/conversations"' in said
    for name in (NEW, "a-tenant", "proj_of_a_tenant", record.id):
        assert name not in said


@pytest.mark.parametrize("auth", ["auto", "on"])
async def test_without_redis_an_api_says_that_and_no_more(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore, auth: str
) -> None:
    _, secret = await keys.create(Grant(scopes=("metrics",)))
    async with serving(valkey.url, auth=auth) as api:
        assert "backline_redis_up 1.0" in (await api.get("/metrics", headers=bearer(secret))).text
    async with serving("redis://127.0.0.1:1", auth=auth) as api:
        answer = await api.get("/metrics", headers=bearer(secret))
        assert answer.status_code == 200
        names = [family.name for family in text_string_to_metric_families(answer.text)]
        assert (names, "backline_redis_up 0.0" in answer.text) == (["backline_redis_up"], True)


async def test_on_loopback_a_worker_answers_to_loopbacks_names_alone(keys: KeyStore) -> None:
    async with shown(keys) as worker:
        assert "backline_run_attempts_total" in (await worker.get("/metrics")).text
        assert (await worker.get("/metrics", headers={"host": "rebound.example"})).status_code == 403
        assert (await worker.get("/")).status_code == 404
        assert (await worker.post("/metrics")).status_code == 405


async def test_beyond_loopback_a_worker_asks_for_a_key_that_may(keys: KeyStore) -> None:
    async with shown(keys, metrics_host="0.0.0.0") as worker:
        assert (await worker.get("/metrics")).status_code == 401
        for scopes, status in ((("metrics",), 200), (("admin",), 200), (("run", "read"), 403)):
            record, secret = await keys.create(Grant(scopes=scopes))  # type: ignore[arg-type]
            assert (await worker.get("/metrics", headers=bearer(secret))).status_code == status
            await keys.revoke(record.id)
            assert (await worker.get("/metrics", headers=bearer(secret))).status_code == 401


async def test_a_worker_hangs_up_on_who_says_nothing(keys: KeyStore) -> None:
    async with shown(keys, receive_timeout_s=0.2) as worker:
        reader, writer = await asyncio.open_connection("127.0.0.1", worker.base_url.port)
        async with asyncio.timeout(10):
            assert b"200" not in await reader.read()
        writer.close()


async def test_workers_of_one_host_take_a_free_port_each(keys: KeyStore) -> None:
    async with AsyncExitStack() as workers:
        seen = [await workers.enter_async_context(shown(keys)) for _ in range(2)]
        assert seen[0].base_url != seen[1].base_url
        for worker in seen:
            assert (await worker.get("/metrics")).status_code == 200


def test_a_port_that_is_taken_is_named(redis: ArqRedis, keys: KeyStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenerError, match=f"127.0.0.1:{port}.*metrics_port"):
            MetricsListener(WorkerMetrics([]), look, keys, Settings(metrics_port=port))


async def test_what_the_operator_has_not_named_is_other(redis: ArqRedis, valkey: Valkey) -> None:
    await announce(redis)
    metrics = WorkerMetrics(["agent"])
    assert metrics.of(NEW).agent == "other"
    metrics.found(NEW, "new")
    assert NEW not in metrics.exposition()[0].decode()
    async with serving(valkey.url) as api:
        await api.request(NEW.upper(), f"/{NEW}/{NEW}")
        said = (await api.get("/metrics")).text
    assert NEW not in said.lower()
    assert 'method="other",route="other",status="404"' in said


async def test_a_failed_try_to_reach_redis_is_counted() -> None:
    failed: list[str] = []
    redis = connect("redis://127.0.0.1:1", on_error=failed.append)
    try:
        with pytest.raises(RedisConnectionError):
            await redis.ping()
    finally:
        await redis.aclose()
    assert failed == ["ConnectionError"]


async def test_each_try_that_fails_is_counted_although_the_next_one_does_not() -> None:
    failed: list[str] = []
    answers = iter([b"", b"", b"+PONG\r\n"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            is_ping = b"PING" in data
            said = next(answers) if is_ping else b"+OK\r\n" * data.count(b"CLIENT\r\n")
            if not said:
                break
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        redis = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", on_error=failed.append)
        assert await redis.ping()
        await redis.aclose()
    assert failed == ["ConnectionError"] * 2


async def test_a_loop_that_is_held_up_is_seen() -> None:
    metrics = ProcessMetrics()

    def seen(name: str) -> float:
        families = text_string_to_metric_families(metrics.exposition()[0].decode())
        return sum(sample.value for each in families for sample in each.samples if sample.name == name)

    async def looked() -> bool:
        return seen("backline_event_loop_delay_seconds_count") > 0

    async with running(metrics.loop_delay.run()):
        await until(looked, "a look at the loop")


def test_a_tally_is_a_histogram() -> None:
    registry = CollectorRegistry()
    tallies = Tallies("t_seconds", "Time.", "agent", ["a", "b"], (0.1, 1))
    registry.register(tallies)
    for value in (0.05, 0.1, 0.5, 7):
        tallies.of["a"].note(value)
    said = generate_latest(registry).decode()
    for line in (
        't_seconds_bucket{agent="a",le="0.1"} 2.0',
        't_seconds_bucket{agent="a",le="1.0"} 3.0',
        't_seconds_bucket{agent="a",le="+Inf"} 4.0',
        't_seconds_count{agent="a"} 4.0',
        't_seconds_sum{agent="a"} 7.65',
        't_seconds_count{agent="b"} 0.0',
    ):
        assert line in said
