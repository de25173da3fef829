"""Every route of our OpenAPI document, asked by the owner, by another tenant, by an admin and without key."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from api.openai.stored import StoredCompletion
from shared.keys import Grant, KeyRecord, KeyStore
from shared.projects import ProjectStore
from shared.run_store import RunStore
from shared.runs import new_run_id
from shared.stored import ObjectStore
from tests.unit.support import Valkey, request
from tests.unit.support_api import announce, bearer, make_app, serving

BODY = {"metadata": {}, "items": [{"type": "message", "role": "user", "content": "Hi"}]}
STORED = {
    "completion": {
        "id": "chatcmpl-1",
        "created": 0,
        "model": "agent",
        "choices": [],
        "usage": {
            **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0),
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        },
        "backline": {"run_id": "run_1", "agent": "agent"},
    },
    "messages": [{"role": "user", "content": "Hi"}],
}
NEEDS_ADMIN = ("/v1/admin/", "/v1/api-key/admin/", "/stats", "/metrics")
OPEN = ("/health", "/ready")
ADMINS_SEE = ("/v1/runs/{run_id}", "/v1/runs/{run_id}/cancel")
"""Where an admin sees what is another tenant's."""


class Operation(NamedTuple):
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def operations() -> list[Operation]:
    document = make_app("redis://127.0.0.1:1").openapi_schema.to_schema()
    return [Operation(method.upper(), path) for path, item in document["paths"].items() for method in item]


NAMING = [each for each in operations() if "{" in each.path and not each.path.startswith(NEEDS_ADMIN)]
OF_TENANTS = [each for each in NAMING if "{model_id}" not in each.path]


class World(NamedTuple):
    api: httpx.AsyncClient
    ids: dict[str, str]
    """What is the owner's, by the parameter that names it."""
    missing: dict[str, str]
    owner: dict[str, str]
    other: dict[str, str]
    admin: dict[str, str]

    async def ask(self, operation: Operation, ids: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        names = re.findall(r"{(\w+)}", operation.path)
        assert set(names) <= ids.keys(), f"say in this test what {names} names"
        path = operation.path.format(**ids)
        body = BODY if operation.method == "POST" else None
        return await self.api.request(operation.method, path, headers=headers, json=body)


@asynccontextmanager
async def begun(redis: ArqRedis, valkey: Valkey, store: RunStore, directory: Path) -> AsyncIterator[World]:
    await announce(redis)
    keys = KeyStore(redis)
    owner, secret = await keys.create(Grant())
    _, others = await keys.create(Grant())
    _, admins = await keys.create(Grant(scopes=("run", "read", "admin")))
    async with serving(valkey.url, data_dir=directory) as api:
        ids = await owned(api, redis, store, owner, bearer(secret))
        missing = {name: re.sub(r"[0-9a-f]{8}$", "00000000", known) for name, known in ids.items()}
        yield World(api, ids, missing, bearer(secret), bearer(others), bearer(admins))


async def owned(
    api: httpx.AsyncClient, redis: ArqRedis, store: RunStore, key: KeyRecord, headers: dict[str, str]
) -> dict[str, str]:
    """One of each thing that has an id."""
    made = (await api.post("/v1/conversations", headers=headers, json=BODY)).json()["id"]
    items = (await api.get(f"/v1/conversations/{made}/items", headers=headers)).json()["data"]
    session = (await api.post("/v1/sessions", headers=headers, json={})).json()["id"]
    wish: dict[str, Any] = {"data": {"purpose": "user_data"}, "files": {"file": ("a.txt", b"Hi")}}
    uploaded = (await api.post("/v1/files", headers=headers, **wish)).json()
    project = await ProjectStore(redis).create(key.tenant, name="", agent="agent", metadata={}, most=5)
    run_id = new_run_id()
    await store.submit(run_id, replace(request("agent"), tenant=key.tenant), queue_limit=5, ttl_s=60)
    completion = "chatcmpl-" + run_id.removeprefix("run_")
    kept = ObjectStore(redis, "completion", StoredCompletion, 60)
    await kept.put(key.tenant, completion, msgspec.convert(STORED, StoredCompletion))
    wish = {"json": {"url": "https://93.184.215.14/", "event_types": ["batch.failed"]}}
    webhook = (await api.post("/v1/webhooks", headers=headers, **wish)).json()["id"]
    return {
        "conversation_id": made,
        "item_id": items[0]["id"],
        "session_id": session,
        "project_id": project.id,
        "completion_id": completion,
        "run_id": run_id,
        "response_id": "resp_" + run_id.removeprefix("run_"),
        "file_id": uploaded["id"],
        "batch_id": f"batch_{'1' * 32}",
        "webhook_id": webhook,
        "event_id": f"evt_{'1' * 32}",
    }


@pytest.mark.parametrize("operation", OF_TENANTS, ids=str)
async def test_what_is_anothers_looks_like_what_is_not_there(
    redis: ArqRedis, valkey: Valkey, store: RunStore, tmp_path: Path, operation: Operation
) -> None:
    async with begun(redis, valkey, store, tmp_path) as world:
        await compare(world, operation)


async def compare(world: World, operation: Operation) -> None:
    for headers in (world.other, world.admin):
        if headers is world.admin and operation.path in ADMINS_SEE:
            assert (await world.ask(operation, world.ids, headers)).status_code == 200
            continue
        foreign = await world.ask(operation, world.ids, headers)
        missing = await world.ask(operation, world.missing, headers)
        assert foreign.status_code == missing.status_code == 404, foreign.text
        said = foreign.text
        for name, known in world.ids.items():
            said = said.replace(known, world.missing[name])
        assert said == missing.text
    assert (await world.ask(operation, world.ids, {})).status_code == 401
    # These take a worker to make, or a connection.
    if not re.search("{(run|response|batch|event)_id}|/test$", operation.path):
        assert (await world.ask(operation, world.ids, world.owner)).status_code < 400


@pytest.mark.parametrize("operation", operations(), ids=str)
async def test_without_a_key_nothing_but_health_answers(
    redis: ArqRedis, valkey: Valkey, store: RunStore, tmp_path: Path, operation: Operation
) -> None:
    async with begun(redis, valkey, store, tmp_path) as world:
        await knock(world, operation)


async def knock(world: World, operation: Operation) -> None:
    ids: dict[str, Any] = {**world.ids, "model_id": "agent", "key_id": "key_1"}
    answer = await world.ask(operation, ids, {})
    is_open = operation.path in OPEN
    assert (answer.status_code == 401) is not is_open
    if operation.path.startswith(NEEDS_ADMIN):
        assert (await world.ask(operation, ids, world.other)).status_code == 403
