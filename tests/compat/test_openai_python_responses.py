"""The Responses API with OpenAI's client for Python; every answer is held against OpenAI's document too."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from openai import OpenAI

from scripted_model import call, fail, say, script, stall, text, think, use_tool
from tests.compat.scripts import MODEL

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=50)


def test_an_answer_whole_stored_listed_and_deleted(client: OpenAI) -> None:
    response = client.responses.create(
        model=MODEL, input=str(say("Hello.")), instructions="Be short.", metadata={"a": "b"}
    )
    assert response.output_text == "Hello."
    assert client.responses.retrieve(response.id).output_text == "Hello."
    items = client.responses.input_items.list(response.id)
    assert [item.type for item in items] == ["message"]
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_stream_live_and_again(client: OpenAI) -> None:
    asked = str(script(think("Hm."), text("One "), text("two.")))
    with client.responses.stream(model=MODEL, input=asked, reasoning={"summary": "auto"}) as stream:
        live = [event.type for event in stream]
        response = stream.get_final_response()
    assert response.output_text == "One two."
    again = list(client.responses.retrieve(response.id, stream=True))
    assert [event.type for event in again][-1] == live[-1] == "response.completed"
    rest = list(client.responses.retrieve(response.id, stream=True, starting_after=3))
    assert [event.sequence_number for event in rest] == [event.sequence_number for event in again][4:]


def test_a_call_and_its_output(client: OpenAI) -> None:
    asked = str(script(call(use_tool("weather", {"city": "Bergen"})), call(text("Rain."))))
    first = client.responses.create(model=MODEL, input=asked, tools=[WEATHER])
    [made] = [item for item in first.output if item.type == "function_call"]
    output: Any = [{"type": "function_call_output", "call_id": made.call_id, "output": "Rain."}]
    second = client.responses.create(
        model=MODEL, input=output, tools=[WEATHER], previous_response_id=first.id
    )
    assert second.output_text


def test_in_the_background_to_its_end_or_its_cancellation(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=str(say("Later.")), background=True)
    while response.status in {"queued", "in_progress"}:
        time.sleep(0.1)
        response = client.responses.retrieve(response.id)
    assert response.output_text == "Later."
    long = client.responses.create(model=MODEL, input=str(script(stall(60))), background=True)
    assert client.responses.cancel(long.id).status == "cancelled"


def test_failures_have_openais_shape(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError):
        client.responses.create(model=MODEL, input=str(script(fail(529))))
    events = list(
        client.responses.create(model=MODEL, input=str(script(text("So "), fail(529))), stream=True)
    )
    assert events[-1].type == "response.failed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")


def test_the_input_is_counted_and_not_compacted(client: OpenAI) -> None:
    short = client.responses.input_tokens.count(model=MODEL, input="One.")
    long = client.responses.input_tokens.count(model=MODEL, input="One. " * 100, tools=[WEATHER])
    assert (short.object, short.input_tokens > 0) == ("response.input_tokens", True)
    assert long.input_tokens > 100 + short.input_tokens
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.compact(model=MODEL, input="One.")
    assert refused.value.code == "unsupported_endpoint"
