"""The end of a background response is stored by whoever looks, and looking twice changes nothing."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import msgspec
import pytest
from arq.connections import ArqRedis

from api.accepted import AcceptedRun
from api.backline import BacklineInfo
from api.errors import ApiError
from api.openai.responses.objects import Response
from api.openai.responses.store import Responses, StoredResponse, response_id_of
from api.openai.responses.telling import Manner
from api.runs import Runs
from api.unattended import Unattended
from shared import redis_keys as keys
from shared.event_tail import EventHub
from shared.registry import CachedRegistry, RegistryStore
from shared.run_store import RunStore
from shared.runs import RunState, new_run_id
from shared.settings import Settings
from shared.webhooks.outbox import Outbox
from tests.unit.support import CANCELLED, request

SETTINGS = Settings(retention_s=60)


class Replica(NamedTuple):
    """An API process: what it stores, and who looks after it."""

    responses: Responses
    unattended: Unattended

    async def sweep(self) -> None:
        await self.unattended.sweep()


def replica(redis: ArqRedis, store: RunStore, settings: Settings = SETTINGS) -> Replica:
    runs = Runs(store, EventHub(redis), CachedRegistry(RegistryStore(redis)), settings)
    unattended = Unattended(redis, runs, settings)
    responses = Responses(redis, runs, unattended, Outbox(settings), settings)
    unattended.settle_with(responses.settle_run)
    return Replica(responses, unattended)


async def opened(responses: Responses, store: RunStore) -> StoredResponse:
    run_id = new_run_id()
    submitted = await store.submit(run_id, request(), queue_limit=10, ttl_s=60)
    run = AcceptedRun(run_id, "a", submitted.created_ms // 1000)
    response = Response(
        id=response_id_of(run_id),
        created_at=run.created,
        status="queued",
        model="a",
        background=True,
        backline=BacklineInfo(run_id, "a"),
    )
    stored = StoredResponse(response=response, manner=Manner(), run=run, input=[])
    await responses.open("default", stored)
    return stored


async def raw(redis: ArqRedis, stored: StoredResponse) -> bytes:
    body = await redis.hget(keys.stored("response", "default", stored.response.id), "body")  # type: ignore[misc]
    assert isinstance(body, bytes)
    return body


async def test_two_replicas_store_the_same_end(redis: ArqRedis, store: RunStore) -> None:
    one, other = replica(redis, store), replica(redis, store)
    stored = await opened(one.responses, store)
    await one.sweep()
    assert (await one.responses.find("default", stored.response.id)).response.status == "queued"
    await store.stop(stored.run.id, "a", CANCELLED, "")
    await asyncio.gather(one.sweep(), other.sweep(), one.responses.find("default", stored.response.id))
    settled = await raw(redis, stored)
    assert not await redis.exists(keys.UNATTENDED)
    await one.responses.open("default", stored)
    await redis.hset(keys.stored("response", "default", stored.response.id), "body", settled)  # type: ignore[arg-type,misc]
    await other.sweep()
    assert await raw(redis, stored) == settled
    found = await other.responses.find("default", stored.response.id)
    assert (found.response.status, found.log) == ("cancelled", [CANCELLED])


async def test_one_whose_log_has_lapsed_has_failed(redis: ArqRedis, store: RunStore) -> None:
    one = replica(redis, store)
    responses = one.responses
    stored = await opened(responses, store)
    await redis.delete(keys.run(stored.run.id), keys.events(stored.run.id), keys.queue("a"))
    await one.sweep()
    found = await responses.find("default", stored.response.id)
    assert found.response.status == "failed"
    assert not await redis.exists(keys.UNATTENDED)


async def test_a_deleted_one_does_not_come_back(redis: ArqRedis, store: RunStore) -> None:
    one = replica(redis, store)
    responses = one.responses
    stored = await opened(responses, store)
    await responses.delete("default", stored)
    status = await store.status(stored.run.id)
    assert status is not None
    assert status.state is RunState.CANCELLED
    await responses.settle(
        "default", stored, msgspec.structs.replace(stored.response, status="failed"), [], 0
    )
    with pytest.raises(ApiError):
        await responses.find("default", stored.response.id)


async def test_what_waits_for_an_agent_that_nobody_serves_is_looked_after(
    redis: ArqRedis, store: RunStore
) -> None:
    one = replica(redis, store, msgspec.structs.replace(SETTINGS, unserved_timeout_s=1e-9))
    responses = one.responses
    stored = await opened(responses, store)
    await one.sweep()
    await one.sweep()
    found = await responses.find("default", stored.response.id)
    assert (found.response.status, found.response.error and found.response.error.code) == (
        "failed",
        "server_error",
    )
