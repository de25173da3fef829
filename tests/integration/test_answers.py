"""Whole answers: their shape, usage and end, and what of a request reaches the model."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, OpenAI

from scripted_model import Usage, call, script, stall, text, think
from tests.support.asking import PATH, ask, body, stream, text_of, user
from tests.support.model import Model, ModelCall
from tests.support.waiting import eventually


async def test_a_whole_answer_is_openais(sdk: AsyncOpenAI, marker: str) -> None:
    answer = await ask(sdk, marker, script(text("one two three")))
    assert text_of(answer) == "one two three"
    assert answer.object == "chat.completion"
    assert answer.id.startswith("chatcmpl-")
    assert answer.model == "agent"
    assert answer.choices[0].index == 0
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.tool_calls is None


def test_the_sync_sdk_asks_too(sync_sdk: OpenAI, marker: str) -> None:
    answer = sync_sdk.chat.completions.create(
        model="agent", messages=[user(marker, script(text("one two three")))]
    )
    assert text_of(answer) == "one two three"


async def test_every_required_field_is_on_the_wire(http: httpx.AsyncClient, marker: str) -> None:
    answer = (await http.post(PATH, json=body(marker, script(text("yes"))))).json()
    assert answer.keys() >= {"id", "object", "created", "model", "choices", "usage"}
    assert answer["choices"][0].keys() >= {"index", "message", "finish_reason", "logprobs"}
    assert answer["choices"][0]["message"].keys() >= {"role", "content", "refusal"}


async def test_the_raw_response_names_the_request(sdk: AsyncOpenAI, marker: str) -> None:
    raw = await sdk.chat.completions.with_raw_response.create(
        model="agent", messages=[user(marker, script(text("yes")))]
    )
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["x-request-id"])
    assert raw.parse()._request_id == raw.headers["x-request-id"]


async def test_a_proxys_request_id_is_kept(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health", headers={"x-request-id": "from-a-proxy.1"})
    assert answer.headers["x-request-id"] == "from-a-proxy.1"


@pytest.mark.parametrize("bad", ["with space", "x" * 101, 'quote"', "<b>", ""])
async def test_a_bad_request_id_is_replaced(http: httpx.AsyncClient, bad: str) -> None:
    answer = await http.get("/health", headers={"x-request-id": bad})
    assert re.fullmatch(r"req_[0-9a-f]{32}", answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/v1", "/v1/nothing", "/docs/static/nothing.js"])
async def test_a_page_that_is_not_there_carries_a_request_id(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    assert answer.headers["x-request-id"]


async def test_usage_counts_the_cache_as_prompt(sdk: AsyncOpenAI, marker: str) -> None:
    used = Usage(input=10, output=7, cache_read=300, cache_creation=50)
    answer = await ask(sdk, marker, script(call(text("yes"), usage=used)))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 360
    assert answer.usage.completion_tokens == 7
    assert answer.usage.total_tokens == 367
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 300


async def test_backline_adds_cost_session_and_run(http: httpx.AsyncClient, marker: str) -> None:
    answer = await http.post(PATH, json=body(marker, script(text("yes"))))
    backline = answer.json()["backline"]
    assert backline["cost_usd"] > 0
    assert re.fullmatch(r"[0-9a-f-]{36}", backline["session_id"])
    assert re.fullmatch(r"run_[0-9a-f]{44}", backline["run_id"])
    assert backline["run_id"] == answer.headers["x-backline-run-id"]
    assert backline["agent"] == "agent"
    assert backline["claude_model"].startswith("claude-")


async def test_thinking_is_not_part_of_the_answer(sdk: AsyncOpenAI, marker: str) -> None:
    answer = await ask(sdk, marker, script(think("secret thoughts"), text("yes")))
    assert text_of(answer) == "yes"


@pytest.mark.parametrize(
    ("stop_reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_the_models_reason_to_stop_is_told(
    sdk: AsyncOpenAI, model: Model, marker: str, stop_reason: str, finish: str, is_stream: bool
) -> None:
    asked = script(call(text("so far"), stop_reason=stop_reason), call(stall(30), text("and more")))
    if is_stream:
        chunks = [chunk async for chunk in stream(sdk, marker, asked)]
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        answer = await ask(sdk, marker, asked)
        said, reason = text_of(answer), answer.choices[0].finish_reason
    assert reason == finish
    assert said == "so far"
    # At max_tokens and at a refusal the CLI asks again by itself: what it manages to send before it is
    # interrupted must be broken off and never become an answer.
    first, *again = await ended(model, marker)
    assert first.ended == "completed"
    assert [sent.ended for sent in again] in ([], ["disconnected"])
    assert not again or stop_reason in {"max_tokens", "refusal"}


async def ended(model: Model, marker: str) -> list[ModelCall]:
    await eventually(lambda: all(sent.ended for sent in model.calls(marker)), 3, "the model calls end")
    return model.calls(marker)


async def test_sampling_reaches_the_model(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    await ask(sdk, marker, script(text("yes")), max_tokens=77, temperature=0.3, stop=["END", "STOP"])
    request = model.call(marker).body
    assert request["max_tokens"] == 77
    assert request["temperature"] == 0.3
    assert request["stop_sequences"] == ["END", "STOP"]


async def test_more_sampling_reaches_the_model(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    await ask(
        sdk, marker, script(text("yes")), max_completion_tokens=55, max_tokens=66, top_p=0.5, stop="END"
    )
    request = model.call(marker).body
    assert request["max_tokens"] == 55
    assert request["top_p"] == 0.5
    assert request["stop_sequences"] == ["END"]


async def test_sampling_switches_thinking_off_as_the_model_demands(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    """The Messages API refuses a changed temperature together with thinking."""
    await ask(sdk, marker, script(text("yes")), temperature=0.3)
    assert model.call(marker).body.get("thinking", {"type": "disabled"})["type"] == "disabled"


async def test_a_temperature_above_the_models_bound_is_sent_as_the_bound(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    await ask(sdk, marker, script(text("yes")), temperature=1.7)
    assert model.call(marker).body["temperature"] == 1


async def test_fields_without_effect_are_named(http: httpx.AsyncClient, marker: str) -> None:
    extra: dict[str, Any] = {"seed": 1, "made_up": {"deep": []}, "logit_bias": {"1": 2}}
    answer = await http.post(PATH, json=body(marker, script(text("yes")), **extra))
    assert answer.status_code == 200
    assert answer.json()["backline"]["ignored"] == ["logit_bias", "made_up", "seed"]
