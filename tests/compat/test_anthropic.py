"""The `anthropic` package for Python, pointed at `/v1/messages`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Message

from scripted_model import Script
from tests.compat.proxy import Proxy
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    MODEL,
    NAMED,
    PARAMETERS,
    PNG,
    REQUIRED,
    WORDS,
    Person,
    broken,
    endless,
    one_call,
    person,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.model import Model

pytestmark = pytest.mark.client("anthropic (Python)")

TOOLS: Any = [{"name": "get_weather", "description": "Weather of a city.", "input_schema": PARAMETERS}]


@pytest.fixture
def client(proxy: Proxy) -> Iterator[Anthropic]:
    with Anthropic(base_url=proxy.url, api_key="unused") as client:
        yield client


def asked(marker: str, script: Script) -> list[Any]:
    return [{"role": "user", "content": f"{marker} {script}"}]


def finish(client: Anthropic, history: list[Any], message: Message) -> Message:
    """Answer the calls of `message`."""
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": weather(str(block.input["city"]))}
        for block in message.content
        if block.type == "tool_use"
    ]
    history += [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    return client.messages.create(model=MODEL, max_tokens=500, messages=history, tools=TOOLS)


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@pytest.mark.feature("answer")
def test_an_answer_is_whole(client: Anthropic, marker: str) -> None:
    answer = client.messages.create(model=MODEL, max_tokens=500, messages=asked(marker, words()))
    assert text_of(answer) == WORDS
    assert answer.stop_reason == "end_turn"


@pytest.mark.feature("answer")
async def test_an_answer_is_whole_when_awaited(proxy: Proxy, marker: str) -> None:
    async with AsyncAnthropic(base_url=proxy.url, api_key="unused") as client:
        answer = await client.messages.create(model=MODEL, max_tokens=500, messages=asked(marker, words()))
    assert text_of(answer) == WORDS


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(client: Anthropic, marker: str) -> None:
    with client.messages.stream(model=MODEL, max_tokens=500, messages=asked(marker, words())) as stream:
        pieces = list(stream.text_stream)
    assert len(pieces) > 1
    assert "".join(pieces) == WORDS


@pytest.mark.feature("usage in a stream")
def test_the_final_message_has_the_usage(client: Anthropic, marker: str) -> None:
    with client.messages.stream(model=MODEL, max_tokens=500, messages=asked(marker, words())) as stream:
        usage = stream.get_final_message().usage
    assert usage.input_tokens > 0
    assert usage.output_tokens > 0


@pytest.mark.feature("tools")
def test_a_call_comes_and_its_result_goes_back(client: Anthropic, model: Model, marker: str) -> None:
    history = asked(marker, one_call())
    answer = client.messages.create(model=MODEL, max_tokens=500, messages=history, tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    assert inputs(answer) == [{"city": CITIES[0]}]
    assert text_of(finish(client, history, answer)) == FINAL
    assert "sunny in" in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
def test_two_calls_come_at_once(client: Anthropic, marker: str) -> None:
    history = asked(marker, two_calls())
    answer = client.messages.create(model=MODEL, max_tokens=500, messages=history, tools=TOOLS)
    assert inputs(answer) == [{"city": city} for city in CITIES]
    assert text_of(finish(client, history, answer)) == FINAL


@pytest.mark.feature("streamed tools")
def test_streamed_calls_accumulate(client: Anthropic, marker: str) -> None:
    history = asked(marker, two_calls())
    with client.messages.stream(model=MODEL, max_tokens=500, messages=history, tools=TOOLS) as stream:
        answer = stream.get_final_message()
    assert answer.stop_reason == "tool_use"
    assert inputs(answer) == [{"city": city} for city in CITIES]
    assert text_of(finish(client, history, answer)) == FINAL


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(
    ("choice", "reached"),
    [({"type": "any"}, REQUIRED), ({"type": "tool", "name": "get_weather"}, NAMED)],
)
def test_a_tool_choice_reaches_the_model(
    client: Anthropic, model: Model, marker: str, choice: Any, reached: tuple[str, ...]
) -> None:
    answer = client.messages.create(
        model=MODEL, max_tokens=500, messages=asked(marker, one_call()), tools=TOOLS, tool_choice=choice
    )
    assert inputs(answer) == [{"city": CITIES[0]}]
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


@pytest.mark.feature("structured output")
def test_an_answer_is_parsed_into_a_model(client: Anthropic, model: Model, marker: str) -> None:
    answer = client.messages.parse(
        model=MODEL, max_tokens=500, messages=asked(marker, person()), output_format=Person
    )
    assert answer.parsed_output == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(client: Anthropic, model: Model, marker: str) -> None:
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    text: Any = {"type": "text", "text": f"{marker} {words()}"}
    client.messages.create(model=MODEL, max_tokens=500, messages=[{"role": "user", "content": [image, text]}])
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_an_unknown_model_is_not_found(client: Anthropic, marker: str) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nobody", max_tokens=500, messages=asked(marker, words()))


@pytest.mark.feature("errors")
def test_a_bad_value_is_a_bad_request(client: Anthropic, marker: str) -> None:
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(model=MODEL, max_tokens=0, messages=asked(marker, words()))


@pytest.mark.feature("errors")
@pytest.mark.parametrize(
    ("status", "kind"), [(429, anthropic.RateLimitError), (529, anthropic.APIStatusError)]
)
def test_a_failure_of_the_model_is_raised_and_not_repeated(
    client: Anthropic, proxy: Proxy, marker: str, status: int, kind: type[anthropic.APIStatusError]
) -> None:
    with pytest.raises(kind) as caught:
        client.messages.create(model=MODEL, max_tokens=500, messages=asked(marker, refused(status)))
    assert caught.value.status_code == 429 if status == 429 else caught.value.status_code >= 500
    assert len(proxy.exchanges) == 1


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(client: Anthropic, marker: str) -> None:
    with client.messages.stream(model=MODEL, max_tokens=500, messages=asked(marker, broken())) as stream:
        pieces = iter(stream.text_stream)
        assert next(pieces) == "so "
        with pytest.raises(anthropic.APIStatusError):
            list(pieces)


@pytest.mark.feature("retries")
def test_what_was_never_accepted_is_repeated(
    client: Anthropic, proxy: Proxy, unserved: str, marker: str
) -> None:
    with pytest.raises(anthropic.APIStatusError):
        client.with_options(max_retries=1).messages.create(
            model=unserved, max_tokens=500, messages=asked(marker, words())
        )
    counts = [exchange.request_headers["x-stainless-retry-count"] for exchange in proxy.exchanges]
    assert counts == ["0", "1"]


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_closing_the_stream_ends_the_run(client: Anthropic, marker: str) -> None:
    with client.messages.stream(model=MODEL, max_tokens=5000, messages=asked(marker, endless())) as stream:
        assert next(iter(stream.text_stream)) == "t0"


def inputs(message: Message) -> list[Any]:
    return [block.input for block in message.content if block.type == "tool_use"]
