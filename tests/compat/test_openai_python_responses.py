"""The Responses API with OpenAI's client for Python; every answer is held against OpenAI's document too."""

from __future__ import annotations

import json
import time
from typing import Any

import openai
import pytest
from openai import OpenAI

from scripted_model import call, fail, say, script, stall, text, think, tokens, use_tool
from tests.compat.scripts import MODEL

pytestmark = pytest.mark.client("openai (Python)")

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def client(url: str) -> OpenAI:
    return OpenAI(base_url=url, api_key="unused", max_retries=0, timeout=50)


@pytest.mark.feature("responses")
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


@pytest.mark.feature("responses")
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


@pytest.mark.feature("responses")
def test_a_call_and_its_output(client: OpenAI) -> None:
    asked = str(script(call(use_tool("weather", {"city": "Bergen"})), call(text("Rain."))))
    first = client.responses.create(model=MODEL, input=asked, tools=[WEATHER])
    [made] = [item for item in first.output if item.type == "function_call"]
    output: Any = [{"type": "function_call_output", "call_id": made.call_id, "output": "Rain."}]
    second = client.responses.create(
        model=MODEL, input=output, tools=[WEATHER], previous_response_id=first.id
    )
    assert second.output_text


@pytest.mark.feature("background responses")
def test_in_the_background_to_its_end_or_its_cancellation(client: OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=str(say("Later.")), background=True)
    while response.status in {"queued", "in_progress"}:
        time.sleep(0.1)
        response = client.responses.retrieve(response.id)
    assert response.output_text == "Later."
    long = client.responses.create(model=MODEL, input=str(script(stall(60))), background=True)
    assert client.responses.cancel(long.id).status == "cancelled"


@pytest.mark.feature("background responses")
def test_a_broken_stream_is_continued(client: OpenAI) -> None:
    asked = str(script(tokens(40, pace_ms=20)))
    before: list[Any] = []
    with client.responses.create(model=MODEL, input=asked, background=True, stream=True) as stream:
        for event in stream:
            before.append(event)
            if len(before) == 12:
                break
    rest = client.responses.retrieve(
        before[0].response.id, stream=True, starting_after=before[-1].sequence_number
    )
    events = [*before, *rest]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == " ".join(f"t{n}" for n in range(40))


@pytest.mark.feature("files and batches")
def test_a_batch_has_its_answers_and_its_errors(client: OpenAI) -> None:
    def line(name: str, model: str) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": str(say("Ok."))}]}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    lines = "\n".join(json.dumps(each) for each in (line("good", MODEL), line("bad", "nobody")))
    file = client.files.create(file=("in.jsonl", lines.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    while batch.status != "completed":
        assert batch.status in {"validating", "in_progress", "finalizing"}
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    [answer] = client.files.content(batch.output_file_id or "").text.splitlines()
    assert json.loads(answer)["response"]["body"]["choices"][0]["message"]["content"] == "Ok."


@pytest.mark.feature("errors")
def test_failures_have_openais_shape(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError):
        client.responses.create(model=MODEL, input=str(script(fail(529))))
    events = list(
        client.responses.create(model=MODEL, input=str(script(text("So "), fail(529))), stream=True)
    )
    assert events[-1].type == "response.failed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_none")


@pytest.mark.feature("responses")
def test_the_input_is_counted_and_not_compacted(client: OpenAI) -> None:
    short = client.responses.input_tokens.count(model=MODEL, input="One.")
    long = client.responses.input_tokens.count(model=MODEL, input="One. " * 100, tools=[WEATHER])
    assert (short.object, short.input_tokens > 0) == ("response.input_tokens", True)
    assert long.input_tokens > 100 + short.input_tokens
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.compact(model=MODEL, input="One.")
    assert refused.value.code == "unsupported_endpoint"
