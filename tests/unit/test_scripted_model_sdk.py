from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anthropic
import pytest

from scripted_model import (
    call,
    fail,
    script,
    serve,
    stall,
    text,
    think,
    tokens,
    use_tool,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scripted_model import Script


@pytest.fixture
async def claude() -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with (
        serve() as url,
        anthropic.AsyncAnthropic(api_key="sk-test", base_url=url, max_retries=0) as client,
    ):
        yield client


def user(prompt: Script) -> list[anthropic.types.MessageParam]:
    return [{"role": "user", "content": f"Please. {prompt}"}]


async def test_the_sdk_gathers_a_stream(claude: anthropic.AsyncAnthropic) -> None:
    prompt = script(think("Let me see."), text("I will look."), use_tool("Bash", {"command": "ls {a,b}"}))
    async with claude.messages.stream(model="m", max_tokens=9, messages=user(prompt)) as stream:
        message = await stream.get_final_message()
    thinking, said, tool = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking == "Let me see."
    assert thinking.signature
    assert said.type == "text"
    assert said.text == "I will look."
    assert tool.type == "tool_use"
    assert tool.input == {"command": "ls {a,b}"}
    assert message.stop_reason == "tool_use"


async def test_without_a_stream_the_same_events_are_folded(claude: anthropic.AsyncAnthropic) -> None:
    prompt = script(
        call(text("One "), text("two"), use_tool("Read", {"n": 1}, id="toolu_x"), stop_reason="max_tokens")
    )
    message = await claude.messages.create(model="m", max_tokens=9, messages=user(prompt))
    said, tool = message.content
    assert said.type == "text"
    assert said.text == "One two"
    assert tool.type == "tool_use"
    assert (tool.id, tool.input) == ("toolu_x", {"n": 1})
    assert (message.model, message.stop_reason) == ("m", "max_tokens")


async def test_tokens_can_be_told_to_count_or_to_carry_their_time(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model="m", max_tokens=9, messages=user(script(tokens(3))))
    assert message.content[0].to_dict()["text"] == "t0 t1 t2"
    before = time.monotonic_ns()
    message = await claude.messages.create(
        model="m", max_tokens=9, messages=user(script(tokens(2, stamp=True)))
    )
    stamps = [part.split(":") for part in str(message.content[0].to_dict()["text"]).split()]
    assert [i for i, _ in stamps] == ["0", "1"]
    assert before < int(stamps[0][1]) <= int(stamps[1][1]) < time.monotonic_ns()


async def test_each_event_arrives_when_it_is_due(claude: anthropic.AsyncAnthropic) -> None:
    prompt = script(text("first "), stall(0.3), text("second"))
    began = time.monotonic()
    arrivals = {}
    async with claude.messages.stream(model="m", max_tokens=9, messages=user(prompt)) as stream:
        async for piece in stream.text_stream:
            arrivals[piece] = time.monotonic() - began
    assert arrivals["first "] < 0.25
    assert arrivals["second"] >= 0.3


async def test_a_failure_first_is_an_http_error(claude: anthropic.AsyncAnthropic) -> None:
    prompt = script(stall(0.01), fail(429, message="slow down", headers={"Retry-After": "7"}))
    with pytest.raises(anthropic.RateLimitError) as caught:
        await claude.messages.create(model="m", max_tokens=9, messages=user(prompt))
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "slow down"},
    }
