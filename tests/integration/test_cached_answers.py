"""The same question to the same agent may be answered from the cache: within a tenant, and never more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from scripted_model import Script, call, cut, script, text, tokens, use_tool
from tests.support.asking import ask, stream, text_of, texts, user
from tests.support.model import Model
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ, running_stack

ONE, TWO, ADMIN = "key-of-tenant-one", "key-of-tenant-two", "key-of-an-admin"
CACHING = "key-that-caches"
KEYS = [
    {"key": ONE, "tenant": "one", "limits": {"requests_per_day": 500}},
    {"key": TWO, "tenant": "two"},
    {"key": ADMIN, "scopes": ["admin"]},
    {"key": CACHING, "tenant": "three", "cache": True},
]


@pytest.fixture(scope="module")
def kept(model: Model) -> Iterator[Stack]:
    settings: dict[str, Any] = {"api_keys": json.dumps(KEYS), "cache_tools": "Read"}
    with running_stack(model, slots=4, **settings) as stack:
        stack.make_agent("mutable")
        stack.start_worker(("mutable",))
        stack.wait_ready(2)
        yield stack


def sdk(stack: Stack, key: str = ONE) -> AsyncOpenAI:
    return stack.sdk().with_options(api_key=key)


async def cached(client: AsyncOpenAI, *words: object, **fields: Any) -> tuple[ChatCompletion, str]:
    """Ask with the cache; gives the answer, and what the header says."""
    raw = await client.chat.completions.with_raw_response.create(
        model=fields.pop("model", "agent"),
        messages=[user(*words)],
        extra_body={"backline": {"cache": True}, **fields.pop("extra", {})},
        **fields,
    )
    return raw.parse(), raw.headers.get("x-backline-cache", "")


def info(answer: Any) -> dict[str, Any]:
    extra: dict[str, Any] = answer.model_extra or {}
    found: dict[str, Any] = extra["backline"]
    return found


async def test_a_key_can_ask_for_the_cache(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept, CACHING) as client:
        said = [
            (await ask(client, marker, script(text("a")), model="agent", extra_body=extra)).model_extra
            for extra in ({}, {}, {"backline": {"cache": False}})
        ]
    assert [(each or {})["backline"].get("cache") for each in said] == ["miss", "hit", None]
    assert len(model.calls(marker)) == 2


async def test_the_same_question_is_answered_once(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        first, said = await cached(client, marker, script(text("a "), text("b")))
        assert (said, info(first)["cache"]) == ("miss", "miss")
        again, said = await cached(client, marker, script(text("a "), text("b")))
        assert (said, info(again)["cache"]) == ("hit", "hit")
    assert text_of(again) == text_of(first)
    assert len(model.calls(marker)) == 1
    assert first.usage is not None
    assert again.usage is not None
    assert again.usage.completion_tokens == first.usage.completion_tokens
    assert again.usage.prompt_tokens_details is not None
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens
    assert again.usage.prompt_tokens == first.usage.prompt_tokens
    assert info(again)["cost_usd"] == 0
    async with kept.http() as http:
        head = {"authorization": f"Bearer {ONE}"}
        shown = (await http.get(f"/v1/runs/{info(again)['run_id']}", headers=head)).json()
    assert (shown["state"], shown["finish"], shown["usage"]["cost_usd"]) == ("completed", "stop", 0)
    assert info(first)["session_id"]
    assert "session_id" not in info(again)
    assert again.id != first.id


async def test_nobody_is_answered_so_who_does_not_ask(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        await cached(client, marker, script(text("a")))
        raw = await client.chat.completions.with_raw_response.create(
            model="agent", messages=[user(marker, script(text("a")))]
        )
    assert "x-backline-cache" not in raw.headers
    assert "cache" not in info(raw.parse())
    assert len(model.calls(marker)) == 2


async def test_a_hit_streams(kept: Stack, model: Model, marker: str) -> None:
    asked = script(tokens(200))
    async with sdk(kept) as client:
        whole, _ = await cached(client, marker, asked)
        options: dict[str, Any] = {"extra_body": {"backline": {"cache": True}}}
        chunks = [chunk async for chunk in stream(client, marker, asked, **options)]
        raw = await client.chat.completions.with_raw_response.create(
            model="agent", messages=[user(marker, asked)], stream=True, **options
        )
        assert raw.headers["x-backline-cache"] == "hit"
        async for _ in raw.parse():
            continue
    assert "".join(texts(chunks)) == text_of(whole)
    assert len(texts(chunks)) > 1
    assert len(model.calls(marker)) == 1


async def test_responses_are_answered_so_too(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        said: dict[str, Any] = {"model": "agent", "input": f"{marker} {script(text('a'))}"}
        first = await client.responses.create(**said, extra_body={"backline": {"cache": True}})
        again = await client.responses.create(**said, extra_body={"backline": {"cache": True}})
        stored = await client.responses.retrieve(again.id)
    assert first.output_text == again.output_text == stored.output_text == "a"
    assert (info(first)["cache"], info(again)["cache"]) == ("miss", "hit")
    assert len(model.calls(marker)) == 1


async def test_tenants_have_answers_of_their_own(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as one, sdk(kept, TWO) as two:
        await cached(one, marker, script(text("a")))
        _, said = await cached(two, marker, script(text("a")))
    assert said == "miss"
    assert len(model.calls(marker)) == 2


async def test_all_that_reaches_the_model_counts(kept: Stack, marker: str) -> None:
    others: list[dict[str, Any]] = [
        {"temperature": 0.3},
        {"response_format": {"type": "json_object"}},
        {"extra": {"claude_options": {"disallowed_tools": ["Bash"]}}},
    ]
    async with sdk(kept) as client:
        await cached(client, marker, script(text('{"a": 1}')))
        said = [(await cached(client, marker, script(text('{"a": 1}')), **each))[1] for each in others]
    assert said == ["miss"] * len(others)


async def test_a_changed_agent_is_another(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        await cached(client, marker, script(text("a")), model="mutable")
        assert (await cached(client, marker, script(text("a")), model="mutable"))[1] == "hit"
        (kept.root / "agents/mutable/CLAUDE.md").write_text("# Changed\n")
        for _ in range(100):
            if (await cached(client, marker, script(text("a")), model="mutable"))[1] != "hit":
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError("the agent's change goes unseen")


READS = script(call(use_tool("Read", {"file_path": "CLAUDE.md"})), call(text("read")))
ACTS = script(call(use_tool("Bash", {"command": "true"})), call(text("done")))
CALLS = script(call(use_tool("look_up", {"word": "x"})))
FUNCTION: Any = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("asked", "fields", "said"),
    [
        (READS, {}, "hit"),
        (ACTS, {}, "miss"),
        (CALLS, {"tools": [FUNCTION]}, "miss"),
        (script(call(text("a"), stop_reason="max_tokens")), {}, "miss"),
    ],
    ids=["reads", "acts", "calls", "cut"],
)
async def test_what_may_be_kept(
    kept: Stack, marker: str, asked: Script, fields: dict[str, Any], said: str
) -> None:
    async with sdk(kept) as client:
        assert (await cached(client, marker, asked, **fields))[1] == "miss"
        assert (await cached(client, marker, asked, **fields))[1] == said


async def test_a_failure_is_not_kept(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await cached(client, marker, script(text("one"), cut()))
    assert len(model.calls(marker)) == 2


async def test_what_is_not_in_the_request_is_not_kept(kept: Stack, marker: str) -> None:
    async with sdk(kept) as client, kept.http() as http:
        made = await http.post("/v1/conversations", json={}, headers={"authorization": f"Bearer {ONE}"})
        extra = {"conversation_id": made.json()["id"]}
        assert (await cached(client, marker, script(text("a")), extra=extra))[1] == "bypass"


async def test_several_choices_are_several_answers(kept: Stack, model: Model, marker: str) -> None:
    async with sdk(kept) as client:
        for _ in range(2):
            await ask(client, marker, script(text("a")), n=2, extra_body={"backline": {"cache": True}})
    assert len(model.calls(marker)) == 4


async def test_a_hit_costs_the_key_a_request_and_nothing_else(kept: Stack, marker: str) -> None:
    async with sdk(kept) as client:
        await cached(client, marker, script(text("a")))
        before = _account(kept)
        await cached(client, marker, script(text("a")))
        after = _account(kept)
    assert after[b"day_requests"] == before[b"day_requests"] + 1
    same = {name for name in before if name.endswith((b"_tokens", b"_usd"))}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


def _account(stack: Stack) -> dict[bytes, int]:
    """The counters of the busiest key, which is tenant one's."""
    with stack.redis_client() as redis:
        accounts = [
            {name: int(value) for name, value in redis.hgetall(key).items()}  # type: ignore[union-attr]
            for key in redis.scan_iter("backline:account:*")
            if redis.type(key) == b"hash"
        ]
    return max(accounts, key=lambda account: account[b"day_requests"])


async def test_an_admin_forgets_answers(kept: Stack, marker: str) -> None:
    async with sdk(kept) as client, kept.http() as http:
        await cached(client, marker, script(text("a")))
        refused = await http.delete("/v1/admin/cache", headers={"authorization": f"Bearer {ONE}"})
        assert refused.status_code == 403
        admin = {"authorization": f"Bearer {ADMIN}"}
        await http.delete("/v1/admin/cache", params={"tenant": "two"}, headers=admin)
        assert (await cached(client, marker, script(text("a"))))[1] == "hit"
        cleared = await http.delete("/v1/admin/cache", headers=admin)
        assert cleared.json()["cleared"] >= 1
        assert (await cached(client, marker, script(text("a"))))[1] == "miss"


async def test_the_command_forgets_an_agents_answers(kept: Stack, marker: str) -> None:
    async with sdk(kept) as client:
        await cached(client, marker, script(text("a")))
        assert await told(kept, "--agent", "other") == "Cleared 0.\n"
        assert (await cached(client, marker, script(text("a"))))[1] == "hit"
        assert await told(kept, "--agent", "agent") != "Cleared 0.\n"
        assert (await cached(client, marker, script(text("a"))))[1] == "miss"


async def told(stack: Stack, *arguments: str) -> str:
    """What `backline cache clear` says."""
    environ = clean_environ(stack.root) | {"BACKLINE_API_KEY": ADMIN}
    argv = [str(BACKLINE), "cache", "clear", *arguments, "--url", stack.url]
    process = await asyncio.create_subprocess_exec(
        *argv, env=environ, cwd=stack.root, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    return said.decode()
