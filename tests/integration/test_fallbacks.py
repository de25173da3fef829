"""When Claude cannot serve, and has shown nothing, a fallback answers: as the same run, and it says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import Fail, fail, script, text, tokens
from tests.support.asking import ask, check_envelope, stream, text_of, texts, until_error, user
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.upstream import Upstream, calls, running_upstream, says
from tests.support.waiting import eventually

BREAKS_AT = 3
OPEN_S = 1.0


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Upstream, Upstream]]:
    with running_upstream() as first, running_upstream() as second:
        yield first, second


@pytest.fixture(scope="module")
def backed(model: Model, services: tuple[Upstream, Upstream]) -> Iterator[Stack]:
    """Two workers with two fallbacks."""
    first, second = services
    fallbacks = [
        second.setting(name="second", priority=2),
        first.setting(name="first", priority=1, models={"other": "gpt-other"}),
    ]
    limits: dict[str, Any] = {"breaker_failures": 1000, "stream_hold_s": 5}
    with running_stack(model, workers=1, slots=4, fallbacks=json.dumps(fallbacks), **limits) as stack:
        stack.start_worker(("other",))
        stack.wait_ready(2)
        yield stack


@pytest.fixture
def first(services: tuple[Upstream, Upstream]) -> Upstream:
    return _fresh(services[0])


@pytest.fixture
def second(services: tuple[Upstream, Upstream]) -> Upstream:
    return _fresh(services[1])


def _fresh(upstream: Upstream) -> Upstream:
    upstream.status, upstream.chunks, upstream.is_cut = 200, says("from ", "upstream"), False
    return upstream


@pytest.fixture
async def client(backed: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with backed.sdk() as sdk:
        yield sdk


NO_CREDIT = fail(400, message="Your credit balance is too low to access the Anthropic API.")


@pytest.mark.parametrize(
    "failure", [fail(401), fail(500), NO_CREDIT], ids=["logged out", "down", "no credit"]
)
async def test_a_fallback_answers_in_claudes_place(
    client: AsyncOpenAI, first: Upstream, marker: str, failure: Fail
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="agent",
        messages=[{"role": "system", "content": "Be brief."}, user(marker, script(failure))],
        temperature=0.5,
        max_tokens=77,
        stop=["END"],
    )
    answer = raw.parse()
    assert text_of(answer) == "from upstream"
    assert raw.headers["x-backline-answered-by"] == "first"
    info = answer.model_extra["backline"] if answer.model_extra else {}
    assert info["fallback"]["name"] == "first"
    assert info["fallback"]["model"] == "gpt-up-1"
    assert info["fallback"]["because"].startswith("upstream_")
    assert "claude_model" not in info
    assert "session_id" not in info
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 3)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    (asked,) = first.asked(marker)
    assert asked["model"] == "gpt-up"
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (asked["temperature"], asked["max_completion_tokens"], asked["stop"]) == (0.5, 77, ["END"])
    assert first.keys[-1] == "Bearer KEY-OF-THE-UPSTREAM"


async def test_a_stream_falls_back_before_its_first_token(
    backed: Stack, client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    chunks = [
        chunk
        async for chunk in stream(
            client, marker, script(fail(529)), stream_options={"include_usage": True}, model="other"
        )
    ]
    assert texts(chunks) == ["from ", "upstream"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 14
    said = [extra["backline"] for chunk in chunks if "backline" in (extra := chunk.model_extra or {})]
    assert said[0]["fallback"] == {
        "name": "first",
        "model": "gpt-up-1",
        "because": "upstream_overloaded",
    }
    assert first.asked(marker)[0]["model"] == "gpt-other"
    async with backed.http() as http:
        asked = {"model": "agent", "messages": [user(script(fail(529)))], "stream": True}
        answer = await http.post("/v1/chat/completions", json=asked)
        assert answer.headers["x-backline-answered-by"] == "first"


async def test_nothing_falls_back_once_text_was_shown(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    said, error = await until_error(client, marker, script(text("one "), fail(529)))
    assert said == "one "
    assert error.code == "upstream_overloaded"
    assert first.asked(marker) == []


async def test_a_request_that_is_at_fault_falls_back_to_nobody(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(client, marker, script(fail(400)))
    assert caught.value.code == "upstream_refused_request"
    assert first.asked(marker) == []


async def test_the_next_fallback_answers_when_one_fails(
    client: AsyncOpenAI, first: Upstream, second: Upstream, marker: str
) -> None:
    first.status = 503
    second.chunks = says("second best")
    answer = await ask(client, marker, script(fail(529)))
    assert text_of(answer) == "second best"
    assert len(first.asked(marker)) == len(second.asked(marker)) == 1


async def test_claudes_own_error_is_told_when_no_fallback_answers(
    backed: Stack, client: AsyncOpenAI, first: Upstream, second: Upstream, marker: str
) -> None:
    first.status, second.is_cut, second.chunks = 401, True, says()
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(client, marker, script(fail(429)))
    check_envelope(caught.value.response, 429, "rate_limit_exceeded")
    assert "first (HTTP 401), second (" in caught.value.message
    logs = "".join(log.read_text() for log in backed.root.glob("*.log"))
    assert "fallback_tried" in logs
    assert "KEY-OF-THE-UPSTREAM" not in logs + caught.value.message
    with backed.redis_client() as redis:
        for key in redis.scan_iter():
            assert b"KEY-OF-THE-UPSTREAM" not in (redis.dump(key) or b"")  # type: ignore[operator]


async def test_a_fallback_that_breaks_off_is_an_error_and_never_spliced(
    client: AsyncOpenAI, first: Upstream, second: Upstream, marker: str
) -> None:
    first.is_cut = True
    said, error = await until_error(client, marker, script(fail(529)))
    assert said == "from upstream"
    assert error.code == "upstream_error"
    assert second.asked(marker) == []


FUNCTION: Any = {
    "type": "function",
    "function": {
        "name": "look_up",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string"}},
            "required": ["word"],
            "additionalProperties": False,
        },
    },
}


async def test_functions_pass_through_with_their_results(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    first.chunks = calls("look_up", '{"wo', 'rd": "x"}')
    answer = await ask(client, marker, script(fail(529)), tools=[FUNCTION])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("look_up", {"word": "x"})
    assert answer.choices[0].finish_reason == "tool_calls"
    first.chunks = says("it is x")
    messages: list[Any] = [
        user(marker, script(fail(529))),
        answer.choices[0].message.model_dump(exclude_none=True, exclude={"annotations"}),
        {"role": "tool", "tool_call_id": call.id, "content": "found"},
    ]
    again = await client.chat.completions.create(model="agent", messages=messages, tools=[FUNCTION])
    assert text_of(again) == "it is x"
    sent = first.asked(marker)[-1]
    assert sent["messages"][-1] == {"role": "tool", "tool_call_id": call.id, "content": "found"}
    assert sent["messages"][-2]["tool_calls"][0]["id"] == call.id
    assert sent["tools"][0]["function"]["strict"] is True


async def test_a_strict_functions_arguments_fit_or_do_not_come(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    first.chunks = calls("look_up", '{"wrong": 1}')
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, marker, script(fail(529)), tools=[FUNCTION])
    assert caught.value.code == "invalid_output"


async def test_structured_output_and_images_pass_through(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    first.chunks = says("```json\n", '{"a":', " 1}", "\n```")
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    image: Any = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}
    words: Any = {"type": "text", "text": f"{marker} {script(fail(529))}"}
    answer = await client.chat.completions.create(
        model="agent",
        messages=[{"role": "user", "content": [words, image]}],
        response_format={"type": "json_schema", "json_schema": {"name": "it", "schema": schema}},
    )
    assert json.loads(text_of(answer)) == {"a": 1}
    (asked,) = first.asked(marker)
    assert asked["response_format"]["json_schema"]["schema"] == schema
    assert asked["messages"][-1]["content"][1] == image


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"claude_options": {"disallowed_tools": ["Bash"]}}, "claude_options"),
        ({"conversation_id": "new"}, "conversation_id"),
    ],
)
async def test_what_only_an_agent_can_do_is_refused_by_name(
    backed: Stack, client: AsyncOpenAI, first: Upstream, marker: str, extra: dict[str, Any], named: str
) -> None:
    if extra.get("conversation_id") == "new":
        async with backed.http() as http:
            made = await http.post("/v1/conversations", json={})
            extra = {"conversation_id": made.json()["id"]}
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(client, marker, script(fail(529)), extra_body=extra)
    assert caught.value.code == "upstream_overloaded"
    assert f"only the agent itself can honour {named}" in caught.value.message
    assert first.asked(marker) == []


async def test_a_request_may_ask_for_the_agent_or_nobody(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    with pytest.raises(openai.InternalServerError):
        await ask(client, marker, script(fail(529)), extra_body={"backline": {"fallback": False}})
    assert first.asked(marker) == []


async def test_stored_completions_and_responses_know_nothing_of_it(
    client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    answer = await ask(client, marker, script(fail(529)), store=True)
    stored = await client.chat.completions.retrieve(answer.id)
    assert text_of(stored) == "from upstream"
    response = await client.responses.create(model="agent", input=f"{marker} {script(fail(529))}")
    assert response.output_text == "from upstream"
    assert (response.model_extra or {})["backline"]["fallback"]["name"] == "first"


async def test_the_limits_of_the_run_hold_for_fallbacks(
    backed: Stack, client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    with backed.redis_client() as redis:
        before = _used(redis, "output")
        await ask(client, marker, script(fail(529)))
        assert _used(redis, "output") == before + 3


def _used(redis: Any, name: str) -> int:
    return int(redis.hget("backline:usage:total", name) or 0)


async def test_an_agent_without_a_worker_is_stood_in_for(
    backed: Stack, client: AsyncOpenAI, first: Upstream, marker: str
) -> None:
    backed.make_agent("passing")
    worker = backed.start_worker(("passing",))
    backed.wait_ready(3)
    backed.workers.remove(worker)
    worker.ask_to_end()
    worker.exit_code()

    for _ in range(100):
        with suppress(openai.InternalServerError):  # until the others have noticed
            assert text_of(await ask(client, marker, model="passing")) == "from upstream"
            break
        await asyncio.sleep(0.1)
    else:
        raise AssertionError("nobody stood in")
    assert first.asked(marker)
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(
            client, marker, model="passing", extra_body={"claude_options": {"disallowed_tools": ["Bash"]}}
        )
    assert caught.value.code == "agent_unavailable"


async def test_a_worker_without_a_cli_serves_by_its_fallbacks(
    model: Model, first: Upstream, marker: str
) -> None:
    lone: dict[str, Any] = {"fallbacks": json.dumps([first.setting()]), "claude_path": "/nowhere/claude"}
    with running_stack(model, **lone) as stack:
        async with stack.sdk() as sdk:
            answer = await ask(sdk, marker, script(tokens(3)))
        assert text_of(answer) == "from upstream"
        assert (answer.model_extra or {})["backline"]["fallback"]["because"] == "cli_not_started"


async def test_a_breaker_opens_and_closes_over_two_workers(model: Model, marker: str) -> None:
    with running_upstream() as upstream:
        numbered: dict[str, Any] = {
            "fallback_1_url": upstream.url,
            "fallback_1_model": "gpt-up",
            "fallback_1_name": "spare",
            "breaker_failures": BREAKS_AT,
            "breaker_open_s": OPEN_S,
        }
        with running_stack(model, workers=2, slots=1, **numbered) as stack:
            async with stack.sdk() as sdk:
                for _ in range(BREAKS_AT):
                    await ask(sdk, marker, script(fail(529)))
                assert len(model.calls(marker)) == BREAKS_AT
                for _ in range(2):  # whichever worker has it: Claude is not asked
                    assert text_of(await ask(sdk, marker, script(text("Claude")))) == "from upstream"
                assert len(model.calls(marker)) == BREAKS_AT
                assert _logs(stack).count("circuit_opened") == 1
                await _until_claude_answers(sdk, marker)
                # The probe's client has its answer a moment before the circuit hears of it.
                await eventually(lambda: "circuit_closed" in _logs(stack), 5, "the log says so")
                assert text_of(await ask(sdk, marker, script(text("Claude")))) == "Claude"


async def _until_claude_answers(sdk: AsyncOpenAI, marker: str) -> None:
    for _ in range(100):
        if text_of(await ask(sdk, marker, script(text("Claude")))) == "Claude":
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the circuit stays open")


def _logs(stack: Stack) -> str:
    return "".join(log.read_text() for log in stack.root.glob("worker*.log"))
