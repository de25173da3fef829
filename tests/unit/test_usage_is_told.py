from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import httpx
import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from shared import redis_keys as keys
from shared.keys import Grant, KeyRecord, KeyStore, Limits
from shared.run_events import RunCompleted, TerminalEvent, Usage
from shared.run_store import RunStore
from shared.runs import new_run_id
from tests.unit.support import FAILED, Valkey, request, until
from tests.unit.support_api import announce, bearer, serving

DONE = RunCompleted(finish="stop", usage=Usage(10, 5, 3, 2, cost_usd=0.25), session_id="s", model="m")


async def ran(store: RunStore, key: KeyRecord | None, event: TerminalEvent, agent: str = "agent") -> None:
    asked = replace(request(agent), key=key.id if key else "")
    await store.submit(new_run_id(), asked, queue_limit=9, ttl_s=60, limits=key.limits if key else None)
    (claim,) = (await store.claim([keys.queue(agent)], "w:1", 1)).claims
    attempt = await store.begin(claim, "w", ttl_s=60)
    assert attempt is not None
    await store.finish(claim, attempt.number, event)


@pytest.fixture
async def admin(redis: ArqRedis) -> dict[str, str]:
    await announce(redis)
    _, secret = await KeyStore(redis).create(Grant(scopes=("admin",)))
    return bearer(secret)


async def test_usage_is_by_key_agent_and_day(
    redis: ArqRedis, valkey: Valkey, store: RunStore, admin: dict[str, str]
) -> None:
    key, _ = await KeyStore(redis).create(Grant())
    await ran(store, key, DONE)
    await ran(store, key, FAILED)
    await ran(store, None, DONE, agent="other")
    day = datetime.now(UTC).date().isoformat()
    async with serving(valkey.url) as api:
        said = (await api.get("/v1/admin/usage", headers=admin)).json()["data"]
        assert [(row["day"], row["key"], row["agent"], row["requests"]) for row in said] == [
            (day, "", "other", 1),
            (day, key.id, "agent", 2),
        ]
        assert said[1]["completed"] == said[1]["failed"] == 1
        assert (said[1]["input_tokens"], said[1]["cache_read_tokens"], said[1]["output_tokens"]) == (10, 5, 2)
        assert said[1]["cost_usd"] == 0.25
        told = await api.get("/v1/admin/usage", params={"format": "csv", "group_by": "key"}, headers=admin)
        rows = list(csv.DictReader(io.StringIO(told.text)))
        assert [(row["key"], row["requests"], row["cost_usd"]) for row in rows] == [
            ("", "1", "0.25"),
            (key.id, "2", "0.25"),
        ]
        overall = (await api.get("/stats", headers=admin)).json()
        assert (overall["total"]["requests"], overall["workers"], overall["queued"]) == (3, 1, 0)
        for query in ({"from": "2026-02-02", "to": "2026-01-01"}, {"group_by": "tenant"}, {"from": "x"}):
            assert (await api.get("/v1/admin/usage", params=query, headers=admin)).status_code == 400


async def test_a_key_sees_how_it_stands_and_may_begin_anew(
    redis: ArqRedis, valkey: Valkey, store: RunStore, admin: dict[str, str]
) -> None:
    key, secret = await KeyStore(redis).create(Grant(name="mine", limits=Limits(requests_per_day=5)))
    await ran(store, key, DONE)
    async with serving(valkey.url) as api:

        async def own() -> dict[str, float]:
            stats = (await api.get("/v1/api-key/stats", headers=bearer(secret))).json()
            assert (stats["name"], stats["today"]["requests"]) == ("mine", 1)
            return dict(stats["limits"]["requests_per_day"])

        assert (await own())["used"] == 1
        assert 0 < (await own())["resets_in_s"] <= 86_400
        stats = (await api.get("/v1/api-key/admin/stats", headers=admin)).json()["data"]
        assert {one["key"] for one in stats} >= {key.id}
        body = {"key": key.id}
        assert (await api.post("/v1/api-key/admin/reset", headers=admin, json=body)).json() == {"reset": 1}
        assert (await own())["used"] == 0
        gone = await api.post("/v1/api-key/admin/reset", headers=admin, json={"key": "key_none"})
        assert gone.status_code == 404


async def test_keys_are_made_rotated_and_revoked_over_http(
    redis: ArqRedis, valkey: Valkey, admin: dict[str, str]
) -> None:
    path = "/v1/admin/keys"
    async with serving(valkey.url) as api:
        wish = {"name": "n", "limits": {"requests_per_minute": 3}, "agents": ["agent"]}
        made = (await api.post(path, headers=admin, json=wish)).json()
        secret = made["secret"]
        assert (made["limits"], made["agents"]) == ({"requests_per_minute": 3}, ["agent"])
        assert (await api.get("/v1/models", headers=bearer(secret))).status_code == 200
        shown = await api.get(f"{path}/{made['id']}", headers=admin)
        assert shown.json()["last_used"] is not None
        listed = await api.get(path, headers=admin)
        for answer in (shown, listed):
            assert secret not in answer.text
            assert "hash" not in answer.text
        turned = (await api.post(f"{path}/{made['id']}/rotate", headers=admin, json={"overlap_s": 0})).json()
        await until(lambda: is_refused(api, secret), "the old secret is refused")
        assert not await is_refused(api, turned["secret"])
        assert (await api.delete(f"{path}/{made['id']}", headers=admin)).json()["revoked"]
        await until(lambda: is_refused(api, turned["secret"]), "the revoked key is refused")
        for wrong in ({"scopes": ["root"]}, {"limits": {"requests_per_minute": 0}}, {"title": "x"}):
            assert (await api.post(path, headers=admin, json=wrong)).status_code == 400
        assert (await api.post(f"{path}/{made['id']}/rotate", headers=admin)).status_code == 404
        assert (await api.get(f"{path}/key_none", headers=admin)).status_code == 404


async def is_refused(api: httpx.AsyncClient, secret: str) -> bool:
    return (await api.get("/v1/models", headers=bearer(secret))).status_code == 401
