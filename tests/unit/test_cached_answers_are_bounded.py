"""The cache holds what it may: so many answers, so many bytes, so long; and what a version is."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from arq.connections import ArqRedis
from msgspec.structs import replace

from shared import answer_cache
from shared.answer_cache import AnswerCache, Recording, entry_name
from shared.content import TextPart
from shared.registry import Registry, WorkerRecord
from shared.run_events import RunCompleted, RunEvent, TextDelta, Usage
from shared.runs import ClientTool, RunRequest, Sampling
from shared.settings import Settings
from worker.versions import AgentVersions

REQUEST = RunRequest(agent="a", prompt=(TextPart("hi"),))


def answer(text: str) -> list[RunEvent]:
    return [TextDelta(text=text), RunCompleted(finish="stop", usage=Usage(), session_id="", model="m")]


async def held(cache: AnswerCache, *names: str, tenant: str = "t") -> list[str]:
    return [name for name in names if await cache.get(tenant, name) is not None]


async def test_the_least_recently_used_goes_first(redis: ArqRedis) -> None:
    cache = AnswerCache(redis, Settings(cache_entries=2))
    for name in ("a", "b"):
        await cache.put("t", name, answer(name), ttl_s=60)
        await asyncio.sleep(0.002)  # Redis notes uses to a millisecond
    await held(cache, "a")
    await asyncio.sleep(0.002)
    await cache.put("t", "c", answer("c"), ttl_s=60)
    assert await held(cache, "a", "b", "c") == ["a", "c"]


async def test_bytes_are_bounded(redis: ArqRedis) -> None:
    cache = AnswerCache(redis, Settings(cache_bytes=1000))
    for name in ("a", "b", "c"):
        await cache.put("t", name, answer(name * 400), ttl_s=60)
        await asyncio.sleep(0.002)
    assert await held(cache, "a", "b", "c") == ["b", "c"]
    assert not await cache.put("t", "d", answer("d" * 2000), ttl_s=60)
    assert await held(cache, "b", "c", "d") == ["b", "c"]


async def test_one_tenants_answers_push_out_no_others(redis: ArqRedis) -> None:
    cache = AnswerCache(redis, Settings(cache_entries=1))
    await cache.put("t", "a", answer("a"), ttl_s=60)
    await cache.put("u", "a", answer("b"), ttl_s=60)
    assert await cache.get("t", "a") == answer("a")
    assert await cache.clear("t") == 1
    assert await held(cache, "a", tenant="u") == ["a"]
    assert await cache.clear() == 1
    assert await redis.keys("backline:cache*") == []


async def test_answers_are_forgotten_by_agent_and_the_sums_stay_right(redis: ArqRedis) -> None:
    cache = AnswerCache(redis, Settings(cache_entries=2))
    for tenant in ("t", "u"):
        for name in ("a:1", "ab:1"):
            await cache.put(tenant, name, answer(name), ttl_s=60)
    assert await cache.clear("t", "a") == 1
    assert await cache.clear("t", "*") == await cache.clear("t", "a") == await cache.clear("v") == 0
    assert await held(cache, "a:1", "ab:1") == ["ab:1"]
    await cache.put("t", "a:2", answer("a"), ttl_s=60)
    assert await held(cache, "a:2", "ab:1") == ["a:2", "ab:1"], "there is room again"
    assert await cache.clear(agent="ab") == 2
    assert await held(cache, "a:1", "ab:1", tenant="u") == ["a:1"]
    assert await cache.clear() == 2
    assert await redis.keys("backline:cache*") == []


async def test_many_answers_are_forgotten_in_steps(redis: ArqRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "_SCAN", 3)
    cache = AnswerCache(redis, Settings())
    for number in range(10):
        await cache.put("t", f"a:{number}", answer("x"), ttl_s=60)
    assert await cache.clear(agent="a") == 10
    assert await redis.keys("backline:cache*") == []


async def test_an_answer_lapses_and_makes_room(redis: ArqRedis) -> None:
    cache = AnswerCache(redis, Settings(cache_entries=2))
    await cache.put("t", "b", answer("b"), ttl_s=60)
    await cache.put("t", "a", answer("a"), ttl_s=0.02)
    await asyncio.sleep(0.05)
    await cache.put("t", "c", answer("c"), ttl_s=60)
    assert await held(cache, "a", "b", "c") == ["b", "c"]
    assert all([await redis.pttl(key) > 0 for key in await redis.keys("backline:cache*")])


def test_a_name_is_of_tenant_version_and_question() -> None:
    others = [
        replace(REQUEST, tenant="u"),
        replace(REQUEST, agent="b"),
        replace(REQUEST, prompt=(TextPart("ho"),)),
        replace(REQUEST, system="Be brief."),
        replace(REQUEST, model="opus"),
        replace(REQUEST, sampling=Sampling(max_output_tokens=5)),
        replace(REQUEST, tools=(ClientTool(name="f"),)),
    ]
    names = [entry_name(REQUEST, "1"), entry_name(REQUEST, "2"), *(entry_name(each, "1") for each in others)]
    assert len(set(names)) == len(names)
    assert entry_name(replace(REQUEST, request_id="x", key="k"), "1") == names[0]
    assert entry_name(REQUEST, "") == entry_name(replace(REQUEST, session="s"), "1") == ""


def test_a_kept_answer_is_in_pieces_and_spent_nothing() -> None:
    recording = Recording(())
    for number in range(300):
        recording.add(TextDelta(text=f"t{number} "))
    end = RunCompleted(
        finish="stop", usage=Usage(3, 4, 5, 6, 0.5), session_id="its-own", model="m", cache="miss"
    )
    *pieces, last = recording.entry(end) or []
    assert 1 < len(pieces) < 10
    assert isinstance(last, RunCompleted)
    assert (last.usage, last.session_id, last.cache) == (Usage(0, 12, 0, 6, 0.0), "", "hit")


@pytest.mark.parametrize("change", ["CLAUDE.md", ".claude/settings.json", "docs/page.md"])
def test_a_version_is_of_contents_alone(tmp_path: Path, change: str) -> None:
    here, there = (_agent(tmp_path / name) for name in ("here", "there"))
    versions = AgentVersions("cli 1")
    assert versions.of(here) == versions.of(there) != AgentVersions("cli 2").of(here)
    (here / change).write_text("changed")
    assert versions.of(here) != versions.of(there)
    (there / change).write_text("changed")
    assert versions.of(here) == versions.of(there)


def _agent(directory: Path) -> Path:
    for name in ("CLAUDE.md", ".claude/settings.json", "docs/page.md"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


def test_workers_that_disagree_have_no_version() -> None:
    def worker(id_: str, version: str) -> WorkerRecord:
        versions = {"a": version} if version else {}
        return WorkerRecord(
            id=id_, host="", agents=("a",), slots=1, busy=0, cli_version="", versions=versions
        )

    assert Registry(workers=(worker("1", "x"), worker("2", "x"))).version("a") == "x"
    assert Registry(workers=(worker("1", "x"), worker("2", "y"))).version("a") == ""
    assert Registry(workers=(worker("1", "x"), worker("2", ""))).version("a") == ""
