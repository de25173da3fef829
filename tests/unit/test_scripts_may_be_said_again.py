"""A script whose answer is lost is sent again by the connection: the second time it changes nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from arq.connections import ArqRedis

from shared import redis_keys as keys
from shared.added_items import AddedItem, AddedItems
from shared.batches.records import BatchSpec
from shared.batches.store import BatchStore
from shared.conversations import ConversationStore
from shared.keys import Grant, KeyStore, digest_of
from shared.projects import ProjectStore
from shared.repeats import Repeat
from shared.run_store import RunStore
from shared.scripts import Scripts, Value
from shared.settings import Settings
from shared.webhooks.outbox import Outbox
from tests.unit.support import submit

QUEUE = keys.queue("a")
TWICE = {"submit", "begin", "key_put", "webhook_put", "items_add", "batch_create", "project_create"}


@pytest.fixture(autouse=True)
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears the first answer of these scripts."""
    once = Scripts.__call__

    async def twice(self: Scripts, name: str, names: Sequence[str], args: Sequence[Value]) -> Any:
        if name in TWICE:
            await once(self, name, names, args)
        return await once(self, name, names, args)

    monkeypatch.setattr(Scripts, "__call__", twice)


async def test_a_run_is_begun_once(redis: ArqRedis) -> None:
    store = RunStore(redis, retention_s=60)
    await submit(store, "r")
    (claim,) = (await store.claim([QUEUE], "w:1", 1)).claims
    attempt = await store.begin(claim, "w", ttl_s=60)
    assert attempt is not None
    assert (attempt.number, attempt.n) == (1, 1)
    assert await redis.xlen(keys.events("r")) == 1
    assert (await redis.hgetall(keys.run("r")))[b"tries"] == b"1"  # type: ignore[misc]


async def test_a_rotated_key_keeps_its_old_secret_for_as_long_as_was_asked(redis: ArqRedis) -> None:
    store = KeyStore(redis)
    record, old = await store.create(Grant(name="k"))
    _, new = await store.rotate(record.id, overlap_s=60)
    for secret in (old, new):
        found, _ = await store.find(digest_of(secret))
        assert found is not None
        assert found.id == record.id


async def test_items_stand_once_in_a_conversation(redis: ArqRedis) -> None:
    added = AddedItems(redis, 60)
    made = await ConversationStore(redis, 60).create("t", metadata={})
    item = AddedItem("msg_1", "user", ("One.",))
    assert await added.add("t", made.id, [item])
    assert await added.waiting("t", made.id) == [item]


async def test_a_batch_is_new_to_the_one_who_made_it(redis: ArqRedis) -> None:
    store = BatchStore(redis, Outbox(Settings()), retention_s=60)
    spec = BatchSpec(endpoint="/v1/responses", input_file_id="file-1", completion_window="24h")
    repeat = Repeat(kind="key", name="backline:repeat:one", digest="d", ttl_s=60)
    batch, is_new = await store.create("t", spec, window_s=60, repeat=repeat)
    assert is_new
    page, _ = await store.page("t", limit=9, after="")
    assert [each.id for each in page] == [batch.id]


async def test_the_last_project_that_may_be_is_made(redis: ArqRedis) -> None:
    made = await ProjectStore(redis).create("t", name="n", agent="a", metadata={}, most=1)
    assert await redis.zcard(keys.projects(keys.owner("t"))) == 1
    assert made.name == "n"
