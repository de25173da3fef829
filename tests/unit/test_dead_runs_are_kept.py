"""A run that no start could end is kept with its request, until an operator retries or discards it."""

from __future__ import annotations

import asyncio

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from api.browser_sessions import COOKIE, token_of
from shared import redis_keys as keys
from shared.dead_letters import DeadLetters
from shared.keys import Grant, KeyStore
from shared.run_events import ErrorKind, RunError, RunEvent, RunFailed, StderrKept
from shared.run_index import RunIndex
from shared.run_store import RunStore
from shared.runs import new_run_id
from tests.unit.support import Valkey, request
from tests.unit.support_api import announce, bearer, serving
from worker.stderr import MOST_STDERR, Stderr

LOST = RunFailed(error=RunError(ErrorKind.WORKER_LOST, "Lost."))


async def die(store: RunStore, agent: str = "agent", reason: ErrorKind = ErrorKind.WORKER_LOST) -> str:
    run_id = new_run_id()
    await store.submit(run_id, replace(request(agent), tenant="mine"), queue_limit=9, ttl_s=60)
    (claim,) = (await store.claim([keys.queue(agent)], "w:1", 1)).claims
    for is_start in (True, False):
        attempt = await store.begin(claim, "w1" if is_start else "w2", ttl_s=60, is_start=is_start)
    assert attempt is not None
    event = replace(LOST, error=RunError(reason, "Lost."))
    assert await store.bury(claim, attempt.number, event, stderr="last words", keep_s=60)
    return run_id


@pytest.fixture
def letters(redis: ArqRedis) -> DeadLetters:
    return DeadLetters(redis, 60)


async def test_a_dead_run_has_failed_and_is_a_letter(
    redis: ArqRedis, store: RunStore, letters: DeadLetters
) -> None:
    run_id = await die(store)
    run = await RunIndex(redis).get(run_id)
    assert run is not None
    assert run.end == LOST
    letter = await letters.get(run_id)
    assert letter is not None
    assert (letter.reason, letter.starts, letter.workers) == ("worker_lost", 1, ("w1",))
    assert (letter.agent, letter.tenant, letter.stderr) == ("agent", "mine", "last words")
    assert await letters.request_of(run_id) == replace(request("agent"), tenant="mine")
    assert not await redis.exists(keys.job(run_id), keys.lease(run_id))


async def test_only_the_newest_letters_are_kept(
    redis: ArqRedis, store: RunStore, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MOST_DEAD", 2)
    dead = []
    for _ in range(4):
        dead.append(await die(store))
        await asyncio.sleep(0.002)
    assert [letter.id async for letter in letters.all()] == dead[:1:-1]
    assert len(await redis.keys(keys.dead_request("*"))) == 2


async def test_two_who_retry_begin_one_run(redis: ArqRedis, valkey: Valkey, store: RunStore) -> None:
    await announce(redis)
    run_id = await die(store)
    path = f"/v1/admin/dead-letters/{run_id}/retry"
    async with serving(valkey.url) as api:
        answers = await asyncio.gather(api.post(path), api.post(path))
        begun = {answer.json()["run"] for answer in answers if answer.status_code == 200}
        assert len(begun) == 1
        assert {answer.status_code for answer in answers} <= {200, 404}
        shown = (await api.get(f"/v1/runs/{begun.pop()}")).json()
        assert (shown["state"], shown["retry_of"], shown["tenant"]) == ("queued", run_id, "mine")
        assert (await api.get("/v1/admin/dead-letters")).json()["data"] == []
        assert (await api.post(path)).status_code == 404
    assert await redis.zcard(keys.queue("agent")) == 1


async def test_a_letter_that_cannot_be_retried_stays(
    redis: ArqRedis, valkey: Valkey, store: RunStore
) -> None:
    run_id = await die(store)
    async with serving(valkey.url) as api:
        refused = await api.post(f"/v1/admin/dead-letters/{run_id}/retry")
        assert refused.status_code == 503
        assert [one["id"] for one in (await api.get("/v1/admin/dead-letters")).json()["data"]] == [run_id]
        await announce(redis)
        assert (await api.post(f"/v1/admin/dead-letters/{run_id}/retry")).status_code == 200


async def test_all_of_a_reason_go_at_once(redis: ArqRedis, valkey: Valkey, store: RunStore) -> None:
    await announce(redis)
    lost = [await die(store), await die(store, "other")]
    bug = await die(store, reason=ErrorKind.INTERNAL)
    url = "/v1/admin/dead-letters"
    async with serving(valkey.url) as api:
        page = (await api.get(url, params={"limit": 2})).json()
        rest = (await api.get(url, params={"after": page["next"]})).json()
        assert {one["id"] for one in [*page["data"], *rest["data"]]} == {*lost, bug}
        assert (await api.delete(url)).status_code == 400  # not all of them by a slip
        wish = {"reason": "worker_lost", "agent": "other"}
        assert (await api.delete(url, params=wish)).json() == {"discarded": 1}
        retried = (await api.post(f"{url}/retry", params={"reason": "worker_lost"})).json()["data"]
        assert [one["letter"] for one in retried] == lost[:1]
        assert [one["id"] for one in (await api.get(url)).json()["data"]] == [bug]
        shown = (await api.get(f"{url}/{bug}")).json()
        assert shown["request"]["prompt"] == [{"type": "text", "text": "Hello."}]
        assert (await api.delete(f"{url}/{bug}")).json()["deleted"]
        assert (await api.get(f"{url}/{bug}")).status_code == 404


async def test_letters_are_for_admins(redis: ArqRedis, valkey: Valkey, store: RunStore) -> None:
    await announce(redis)
    run_id = await die(store)
    _, secret = await KeyStore(redis).create(Grant(tenant="mine"))
    async with serving(valkey.url) as api:
        for path in ("", f"/{run_id}"):
            answer = await api.get(f"/v1/admin/dead-letters{path}", headers=bearer(secret))
            assert answer.status_code == 403


def test_last_words_are_whole_lines_without_keys_and_bounded() -> None:
    said: list[RunEvent] = []
    stderr = Stderr(said.append)
    stderr.hear(b"key sk-ant-0123456")
    assert said == []
    stderr.hear(b"789abcdef01234\nnext")
    assert said == [StderrKept(text="key [redacted]\n")]
    for _ in range(100):
        stderr.hear(b"x" * 1_000 + b"\n")
    texts = [event.text for event in said if isinstance(event, StderrKept)]
    assert sum(map(len, texts)) < 20_000
    assert all(len(text) <= MOST_STDERR + 1 for text in texts)


async def test_the_dashboard_retries_and_discards(
    redis: ArqRedis, valkey: Valkey, store: RunStore, letters: DeadLetters
) -> None:
    await announce(redis)
    one, other, kept = (
        await die(store),
        await die(store, reason=ErrorKind.SILENT),
        await die(store, reason=ErrorKind.CLI_DIED),
    )
    async with serving(valkey.url) as api:
        page = (await api.get("/dashboard/dead")).text
        assert all(words in page for words in (one, other, kept, "last words"))
        data = {"csrf": token_of(api.cookies[COOKIE])}
        where = (await api.post(f"/dashboard/dead/{one}/retry", data=data)).headers["location"]
        run = await RunIndex(redis).get(where.rpartition("/")[2])
        assert run is not None
        assert run.about.retry_of == one
        await api.post("/dashboard/dead", data={**data, "reason": "silent", "do": "discard"})
        await api.post("/dashboard/dead", data={**data, "reason": "", "do": "discard"})
        assert [letter.id async for letter in letters.all()] == [kept]
        await api.post(f"/dashboard/dead/{kept}/discard", data=data)
        assert [letter.id async for letter in letters.all()] == []
