"""Anthropic's own client works against an agent."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam, ToolParam

from scripted_model import Script, call, cut, fail, script, stall, text, think, tokens, use_tool
from tests.conftest import NewStack
from tests.integration.test_sessions import pids
from tests.support.model import Model
from tests.support.stack import Stack
from tests.support.waiting import eventually

WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TWO_CALLS = script(
    call(
        text("Let me look. "),
        use_tool("get_weather", {"city": "Paris"}),
        use_tool("get_weather", {"city": "Rome"}),
    ),
    call(text("Sunny.")),
)


def user(*words: object) -> MessageParam:
    return {"role": "user", "content": " ".join(map(str, words))}


def asked(*words: object, **fields: Any) -> dict[str, Any]:
    return {"model": "agent", "max_tokens": 1000, "messages": [user(*words)], **fields}


async def ask(claude: AsyncAnthropic, *words: object, **fields: Any) -> Message:
    answer = await claude.messages.create(**asked(*words, **fields))
    assert isinstance(answer, Message)
    return answer


async def stream(claude: AsyncAnthropic, *words: object, **fields: Any) -> tuple[list[str], Message]:
    """The names of the events that came, and what the client makes of them."""
    async with claude.messages.stream(**asked(*words, **fields)) as events:
        seen: list[str] = [
            event.type async for event in events if event.type not in {"text", "thinking", "input_json"}
        ]
        return seen, await events.get_final_message()


def check_error(answer: Any, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    envelope = answer.json()
    assert envelope.keys() == {"type", "error", "request_id"}
    assert envelope["type"] == "error"
    assert envelope["error"].keys() == {"type", "message"}
    assert envelope["error"]["type"] == kind
    assert envelope["request_id"] == answer.headers["request-id"]
    return str(envelope["error"]["message"])


async def test_an_agent_answers_in_a_message(claude: AsyncAnthropic, model: Model, marker: str) -> None:
    reply = script(text("Hello there."))
    answer = await ask(
        claude,
        marker,
        reply,
        system=[{"type": "text", "text": "SYSTEM-WORD", "cache_control": {"type": "ephemeral"}}],
        stop_sequences=["STOP"],
        metadata={"user_id": "u"},
        service_tier="auto",
        extra_body={"temperature": 0.3, "top_k": 5, "no_such_field": 1},
        extra_headers={"anthropic-beta": "some-beta-2026-01-01"},
    )
    assert answer.id.startswith("msg_")
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", "agent")
    assert [block.to_dict() for block in answer.content] == [
        {"type": "text", "text": "Hello there.", "citations": None}
    ]
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.output_tokens > 0
    assert answer.usage.input_tokens > 0
    assert answer._request_id
    assert answer.backline["ignored"] == ["no_such_field", "top_k"]  # type: ignore[attr-defined]
    made = model.call(marker)
    assert "SYSTEM-WORD" in made.system
    wanted = ("max_tokens", "temperature", "stop_sequences")
    assert [made.body[name] for name in wanted] == [1000, 0.3, ["STOP"]]


async def test_a_stream_is_anthropics_events(claude: AsyncAnthropic, marker: str) -> None:
    seen, answer = await stream(claude, marker, script(tokens(3)))
    deltas = ["content_block_delta"] * (len(seen) - 5)
    assert deltas
    assert seen == [
        "message_start",
        "content_block_start",
        *deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert [block.to_dict()["text"] for block in answer.content] == ["t0 t1 t2"]
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0
    assert answer.usage.input_tokens > 0


async def test_parallel_calls_make_a_round_trip(claude: AsyncAnthropic, model: Model, marker: str) -> None:
    messages: list[MessageParam] = [user(marker, "Weather?", TWO_CALLS)]
    first = await ask(claude, messages=messages, tools=[WEATHER])
    assert first.stop_reason == "tool_use"
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    made = [block for block in first.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in made] == [
        ("get_weather", {"city": "Paris"}),
        ("get_weather", {"city": "Rome"}),
    ]
    results: list[Any] = [
        {"type": "tool_result", "tool_use_id": made[0].id, "content": "22 degrees"},
        {
            "type": "tool_result",
            "tool_use_id": made[1].id,
            "content": [{"type": "text", "text": "no such city"}],
            "is_error": True,
        },
    ]
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    second = await ask(claude, messages=messages, tools=[WEATHER])
    assert [block.to_dict()["text"] for block in second.content] == ["Sunny."]
    seen = [block for _, blocks in model.calls(marker)[-1].turns for block in blocks]
    given = [block for block in seen if block["type"] == "tool_result"]
    assert [bool(block.get("is_error")) for block in given] == [False, True]
    assert "22 degrees" in str(given[0])


async def test_calls_stream_as_blocks(claude: AsyncAnthropic, marker: str) -> None:
    _, answer = await stream(claude, marker, TWO_CALLS, tools=[WEATHER])
    assert [block.type for block in answer.content] == ["text", "tool_use", "tool_use"]
    assert [block.input for block in answer.content if block.type == "tool_use"] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]
    assert answer.stop_reason == "tool_use"


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "any"},
        {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True},
    ],
)
async def test_a_choice_of_tool_reaches_the_model(
    claude: AsyncAnthropic, model: Model, marker: str, choice: Any
) -> None:
    await ask(claude, marker, TWO_CALLS, tools=[WEATHER], tool_choice=choice)
    sent = model.call(marker).body["tool_choice"]
    assert (sent["type"], sent["name"]) == ("tool", "get_weather")
    assert sent.get("disable_parallel_tool_use") == choice.get("disable_parallel_tool_use")


THOUGHT = script(think("Deep in thought."), text("Done."))


async def test_thinking_is_shown_to_who_asks_for_it(claude: AsyncAnthropic, marker: str) -> None:
    wish = {"type": "enabled", "budget_tokens": 2000}
    answer = await ask(claude, marker, THOUGHT, thinking=wish, max_tokens=5000)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    seen, streamed = await stream(claude, marker, THOUGHT, thinking=wish, max_tokens=5000)
    assert streamed.content[0].to_dict()["thinking"] == "Deep in thought."
    assert seen.count("content_block_start") == seen.count("content_block_stop") == 2
    plain = await ask(claude, marker, THOUGHT)
    assert [block.type for block in plain.content] == ["text"]


async def test_the_agents_own_tools_stay_inside(claude: AsyncAnthropic, marker: str) -> None:
    own = script(call(text("One."), use_tool("Bash", {"command": "echo hi"})), call(text("Two.")))
    _, answer = await stream(claude, marker, own)
    assert [block.to_dict()["text"] for block in answer.content] == ["One.\n\nTwo."]
    assert answer.stop_reason == "end_turn"
    shown = {"backline": {"show": ["tools"]}}
    _, told = await stream(claude, marker, own, extra_body=shown)
    assert told.content == answer.content
    whole = await ask(claude, marker, own, extra_body=shown)
    assert [tool["status"] for tool in whole.backline["tools"]] == [  # type: ignore[attr-defined]
        "started",
        "finished",
    ]


async def test_a_stop_sequence_is_named(claude: AsyncAnthropic, marker: str) -> None:
    met = script(call(text("So far"), stop_reason="stop_sequence", stop_sequence="END"))
    answer = await ask(claude, marker, met, stop_sequences=["END"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")
    limit = await ask(claude, marker, script(call(text("So far"), stop_reason="max_tokens")))
    assert limit.stop_reason == "max_tokens"


async def test_an_image_reaches_the_model(claude: AsyncAnthropic, model: Model, marker: str) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    source: Any = {"type": "base64", "media_type": "image/png", "data": pixel}
    said = f"{marker} {script(text('A dot.'))}"
    content: list[Any] = [{"type": "image", "source": source}, {"type": "text", "text": said}]
    answer = await ask(claude, messages=[{"role": "user", "content": content}])
    assert answer.content[0].to_dict()["text"] == "A dot."
    (turn,) = model.call(marker).turns
    assert [block["type"] for block in turn[1]] == ["image", "text"]


async def test_a_chat_goes_on_in_the_process_that_holds_it(new_stack: NewStack, marker: str) -> None:
    """Thinking that the client sends back and blocks that it was shown make no other history."""
    stack = new_stack(slots=2, warm=0, max_live=8)
    thinking: Any = {"type": "enabled", "budget_tokens": 2000}
    replies: list[Script] = [
        script(
            call(think("Hm."), text("One."), use_tool("Bash", {"command": "echo hi"})),
            call(think("Ah."), text("Two.")),
        ),
        script(call(text("Look: "), use_tool("get_weather", {"city": "Rome"}))),
    ]
    messages: list[Any] = []
    held: set[int] = set()
    sessions = set()
    async with stack.anthropic() as claude:
        for reply in replies:
            messages.append(user(marker, reply))
            answer = await ask(claude, messages=messages, thinking=thinking, tools=[WEATHER])
            messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
            sessions.add(answer.backline["session_id"])  # type: ignore[attr-defined]
            held = held or pids(stack)
            assert pids(stack) == held
        used = answer.content[-1]
        assert used.type == "tool_use"
        result = {"type": "tool_result", "tool_use_id": used.id, "content": str(script(text("Mild.")))}
        messages.append(
            {"role": "user", "content": [result, {"type": "text", "text": str(script(text("!")))}]}
        )
        last = await ask(claude, messages=messages, thinking=thinking, tools=[WEATHER])
    assert last.content[0].to_dict()["text"] == "!"
    assert pids(stack) == held
    assert len({*sessions, last.backline["session_id"]}) == 1  # type: ignore[attr-defined]


async def test_an_unknown_model_is_not_found(claude: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        await ask(claude, "hello", model="nobody")
    check_error(caught.value.response, 404, "not_found_error")
    assert caught.value.request_id


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"max_tokens": 0},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tool_choice": {"type": "any"}},
        {"messages": [user("x"), {"role": "assistant", "content": "pre"}]},
    ],
)
async def test_what_cannot_be_honoured_is_a_bad_request(claude: AsyncAnthropic, fields: Any) -> None:
    with pytest.raises(anthropic.BadRequestError) as caught:
        await ask(claude, "hello", **fields)
    assert check_error(caught.value.response, 400, "invalid_request_error")


async def test_every_error_of_these_paths_is_anthropics(hasty: Stack) -> None:
    async with hasty.http() as http:
        check_error(await http.post("/v1/messages", content=b"{"), 400, "invalid_request_error")
        check_error(await http.post("/v1/messages", json={"model": "agent"}), 400, "invalid_request_error")
        check_error(await http.get("/v1/messages"), 405, "invalid_request_error")
        check_error(await http.post("/v1/messages/batches"), 404, "not_found_error")
        check_error(await http.post("/v1/messages", content=b" " * 1_100_000), 413, "request_too_large")
        foreign = {"origin": "https://evil.example"}
        check_error(await http.post("/v1/messages", json={}, headers=foreign), 403, "permission_error")
        versioned = {"anthropic-version": "2023-06-01"}
        check_error(await http.get("/v1/models/nobody", headers=versioned), 404, "not_found_error")


@pytest.mark.parametrize(
    ("upstream", "kind", "status", "said"),
    [
        (400, anthropic.BadRequestError, 400, "invalid_request_error"),
        (401, anthropic.InternalServerError, 500, "api_error"),
        (429, anthropic.RateLimitError, 429, "rate_limit_error"),
        (500, anthropic.InternalServerError, 500, "api_error"),
        (529, anthropic.OverloadedError, 529, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_failure_before_the_first_word_has_a_status_of_its_own(
    claude: AsyncAnthropic,
    marker: str,
    upstream: int,
    kind: type[anthropic.APIStatusError],
    status: int,
    said: str,
    is_stream: bool,
) -> None:
    with pytest.raises(kind) as caught:
        await ask(claude, marker, script(fail(upstream)), stream=is_stream)
    check_error(caught.value.response, status, said)
    assert caught.value.response.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(("broken", "said"), [(fail(529), "overloaded_error"), (cut(), "api_error")])
async def test_a_failure_in_mid_stream_is_an_error_event(
    claude: AsyncAnthropic, marker: str, broken: Any, said: str
) -> None:
    words: list[str] = []
    plan = script(tokens(5, pace_ms=50), broken)
    with pytest.raises(anthropic.APIStatusError) as caught:
        async with claude.messages.stream(
            model="agent", max_tokens=100, messages=[user(marker, plan)]
        ) as events:
            words += [word async for word in events.text_stream]
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"]["type"] == said
    assert caught.value.body["request_id"]


async def test_a_silence_is_filled_with_pings(hasty: Stack, marker: str) -> None:
    body = asked(marker, script(stall(1.5), text("yes")), stream=True)
    async with hasty.http() as http:
        answer = await http.post("/v1/messages", json=body)
    frames = [frame.split("\n")[:2] for frame in answer.text.split("\n\n")[:-1]]
    names = [name.removeprefix("event: ") for name, _ in frames]
    assert names[0] == "message_start"
    assert "ping" in names
    for name, data in frames:
        assert json.loads(data.removeprefix("data: "))["type"] == name.removeprefix("event: ")
    async with hasty.anthropic() as claude:
        _, message = await stream(claude, marker, script(stall(1.5), text("yes")))
    assert message.content[0].to_dict()["text"] == "yes"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_hanging_up_ends_the_run(
    stack: Stack, http: httpx.AsyncClient, model: Model, marker: str, is_stream: bool
) -> None:
    body = asked(marker, script(tokens(600, pace_ms=50)), stream=is_stream)
    request = asyncio.create_task(http.post("/v1/messages", json=body))
    await eventually(lambda: model.calls(marker), 15, "the request reaches the model")
    request.cancel()
    await asyncio.wait({request})
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 5, "the model call ends")
    await eventually(lambda: not stack.cli_processes(), 5, "the CLI is gone")


async def test_tokens_are_counted_without_the_agent(
    claude: AsyncAnthropic, model: Model, marker: str
) -> None:
    few = await claude.messages.count_tokens(model="agent", messages=[user(marker)])
    many = await claude.messages.count_tokens(
        model="agent", messages=[user(marker, "word " * 300)], tools=[WEATHER], system="Be brief."
    )
    assert 1 <= few.input_tokens < 100
    assert many.input_tokens > few.input_tokens + 300
    assert model.calls(marker) == []
    with pytest.raises(anthropic.NotFoundError):
        await claude.messages.count_tokens(model="nobody", messages=[user("x")])


async def test_models_are_listed_in_anthropics_shape(claude: AsyncAnthropic) -> None:
    listed = [each async for each in claude.models.list(limit=2)]
    assert [each.id for each in listed] == ["agent", "other", "haiku", "opus", "sonnet"]
    assert {each.type for each in listed} == {"model"}
    first = await claude.models.list(limit=2)
    assert (first.has_more, first.first_id, first.last_id) == (True, "agent", "other")
    before = await claude.models.list(limit=2, before_id="opus")
    assert [each.id for each in before.data] == ["other", "haiku"]
    assert (await claude.models.retrieve("agent/opus")).id == "agent/opus"
    assert listed[0].created_at.year >= 2024
    with pytest.raises(anthropic.NotFoundError):
        await claude.models.retrieve("nobody")
    with pytest.raises(anthropic.BadRequestError):
        await claude.models.list(after_id="nobody")
