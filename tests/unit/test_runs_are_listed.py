"""Runs can be looked up while their records are kept, by their tenant and by an admin, and nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from shared import redis_keys as keys
from shared.keys import Grant, KeyStore
from shared.run_events import ErrorKind, RunError, RunFailed, Usage
from shared.run_index import NoSuchPlaceError, RunIndex
from shared.run_store import RunStore
from shared.runs import RunState, new_run_id
from tests.unit.support import CANCELLED, Valkey, request
from tests.unit.support_api import announce, bearer, error_of, serving

DIED = RunFailed(
    error=RunError(ErrorKind.CLI_DIED, "It died."), usage=Usage(input_tokens=2), stderr="Segmentation fault"
)


async def begin(store: RunStore, agent: str = "a", **fields: Any) -> str:
    run_id = new_run_id()
    await store.submit(run_id, replace(request(agent), **fields), queue_limit=1000, ttl_s=60)
    return run_id


async def ids_of(index: RunIndex, **wish: Any) -> list[str]:
    return [run.id for run in (await index.page(**{"limit": 100, **wish})).runs]


@pytest.fixture
def index(redis: ArqRedis) -> RunIndex:
    return RunIndex(redis)


async def test_a_list_is_the_tenants_own_the_newest_first(store: RunStore, index: RunIndex) -> None:
    mine = [await begin(store, tenant="mine") for _ in range(3)]
    other = await begin(store, tenant="other")
    assert set(await ids_of(index, tenant="mine")) == set(mine)
    assert await ids_of(index, tenant="other") == [other]
    assert set(await ids_of(index)) == {*mine, other}
    created = [run.created_ms for run in (await index.page(limit=9)).runs]
    assert created == sorted(created, reverse=True)


async def test_pages_give_each_run_once_and_lead_back(store: RunStore, index: RunIndex) -> None:
    for _ in range(7):
        await begin(store)
    all_ids = await ids_of(index)
    given: list[str] = []
    page = await index.page(limit=3)
    while page.place:
        given += [run.id for run in page.runs]
        page = await index.page(limit=3, place=page.place)
    assert given + [run.id for run in page.runs] == all_ids
    before = await index.page(limit=2, place=all_ids[4], side="before")
    assert [run.id for run in before.runs] == all_ids[2:4]
    assert (await index.page(limit=2, place=all_ids[1], side="before")).place == ""


async def test_a_page_chooses_by_state_agent_and_key(store: RunStore, index: RunIndex) -> None:
    first, second, third = await begin(store), await begin(store, "b"), await begin(store, key="key_1")
    await store.stop(first, "a", CANCELLED, "why")
    assert await ids_of(index, state=RunState.CANCELLED) == [first]
    assert await ids_of(index, agent="b") == [second]
    assert await ids_of(index, key="key_1") == [third]
    assert await ids_of(index, key="key_1", agent="b") == []


async def test_a_search_looks_at_so_many_and_goes_on_from_there(store: RunStore, index: RunIndex) -> None:
    last = await begin(store, "rare")
    for _ in range(1_000):
        await begin(store)
    page = await index.page(agent="rare", limit=5)
    assert page.runs == ()
    assert [run.id for run in (await index.page(agent="rare", limit=5, place=page.place)).runs] == [last]


async def test_what_has_lapsed_leaves_the_lists(redis: ArqRedis, store: RunStore, index: RunIndex) -> None:
    lapsed, kept = [await begin(store) for _ in range(5)], await begin(store)
    await redis.delete(*(keys.run(run_id) for run_id in lapsed))
    assert await ids_of(index) == [kept]
    assert await redis.zrange(keys.runs(), 0, -1) == [kept.encode()]


async def test_runs_that_come_sweep_out_those_that_lapsed(redis: ArqRedis, store: RunStore) -> None:
    lapsed = [await begin(store) for _ in range(6)]
    await redis.delete(*(keys.run(run_id) for run_id in lapsed))
    await asyncio.sleep(0.002)  # what comes is younger by Redis's clock too
    kept = {(await begin(store)).encode() for _ in range(3)}
    for name in (keys.runs(), keys.runs("default")):
        assert set(await redis.zrange(name, 0, -1)) == kept


async def test_a_list_has_a_bound(store: RunStore, index: RunIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "MOST_RUNS", 3)
    made = [await begin(store) for _ in range(5)]
    assert set(await ids_of(index)) <= set(made)
    assert len(await ids_of(index)) == 3


async def test_a_run_tells_its_starts_its_workers_and_its_end(store: RunStore, index: RunIndex) -> None:
    run_id = await begin(store, request_id="req", conversation="conv_1", model="opus", tenant="mine")
    for number, worker in enumerate(("w1", "w2"), start=1):
        (claim,) = (await store.claim([keys.queue("a")], f"{worker}:1", 1)).claims
        assert await store.begin(claim, worker, ttl_s=60)
        if number == 1:
            await store.release(claim, "a")
    assert await store.finish(claim, 2, DIED)
    run = await index.get(run_id)
    assert run is not None
    assert (run.state, run.starts, run.workers, run.end) == (RunState.FAILED, 2, ("w1", "w2"), DIED)
    assert run.created_ms <= run.begun_ms <= run.ended_ms
    assert (run.about.request_id, run.about.conversation, run.about.model) == ("req", "conv_1", "opus")


async def test_a_place_that_is_no_run_is_refused(index: RunIndex) -> None:
    with pytest.raises(NoSuchPlaceError):
        await index.page(limit=1, place="nonsense")


async def test_the_api_lists_to_each_what_is_theirs(redis: ArqRedis, valkey: Valkey, store: RunStore) -> None:
    await announce(redis)
    kept = KeyStore(redis)
    key, secret = await kept.create(Grant())
    _, others = await kept.create(Grant())
    _, admins = await kept.create(Grant(scopes=("run", "read", "admin")))
    mine = await begin(store, "agent", tenant=key.tenant, key=key.id)
    await store.submit(new_run_id(), request("agent"), queue_limit=5, ttl_s=60)
    async with serving(valkey.url) as api:

        async def listed(secret: str, **query: str) -> list[str]:
            answer = await api.get("/v1/runs", headers=bearer(secret), params=query)
            return [run["id"] for run in answer.json()["data"]]

        assert await listed(secret) == [mine]
        assert await listed(others) == []
        assert len(await listed(admins)) == 2
        assert await listed(admins, tenant=key.tenant) == [mine]
        assert await listed(admins, key=key.id, state="queued", agent="agent") == [mine]
        foreign = await api.get("/v1/runs", headers=bearer(others), params={"tenant": key.tenant})
        assert (foreign.status_code, error_of(foreign)["param"]) == (403, "tenant")
        wrong: list[dict[str, str]] = [{"after": "x"}, {"after": mine, "before": mine}, {"state": "no"}]
        for query in wrong:
            answer = await api.get("/v1/runs", headers=bearer(secret), params=query)
            assert (answer.status_code, error_of(answer)["param"]) == (400, list(query)[-1])


async def test_a_run_is_shown_and_cancelled_by_its_tenant_and_no_other(
    redis: ArqRedis, valkey: Valkey, store: RunStore
) -> None:
    await announce(redis)
    kept = KeyStore(redis)
    key, secret = await kept.create(Grant())
    _, others = await kept.create(Grant())
    run_id = await begin(store, "agent", tenant=key.tenant)
    async with serving(valkey.url) as api:
        for path, ask in ((f"/v1/runs/{run_id}", api.get), (f"/v1/runs/{run_id}/cancel", api.post)):
            assert (await ask(path, headers=bearer(others))).status_code == 404
        shown = (await api.get(f"/v1/runs/{run_id}", headers=bearer(secret))).json()
        assert (shown["state"], shown["attempts"], shown["error"]) == ("queued", 0, None)
        assert "Hello." not in str(shown)
        ended = await api.post(f"/v1/runs/{run_id}/cancel", headers=bearer(secret))
        assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
        again = await api.post(f"/v1/runs/{run_id}/cancel", headers=bearer(secret))
        assert again.json() == ended.json()


async def test_a_run_that_died_tells_why(redis: ArqRedis, valkey: Valkey, store: RunStore) -> None:
    await announce(redis)
    run_id = await begin(store, "agent")
    (claim,) = (await store.claim([keys.queue("agent")], "w:1", 1)).claims
    assert await store.begin(claim, "w", ttl_s=60)
    assert await store.finish(claim, 1, DIED)
    async with serving(valkey.url) as api:
        shown = (await api.get(f"/v1/runs/{run_id}")).json()
    assert shown["error"] == {"kind": "cli_died", "code": "agent_died", "message": "It died."}
    assert shown["stderr"] == "Segmentation fault"
    assert shown["usage"]["input_tokens"] == 2
