"""The Responses API, as OpenAI's own client uses it, on the real CLI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from scripted_model import call, fail, say, script, text, think, tokens, use_tool
from tests.support.asking import check_envelope
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import eventually

PATH = "/v1/responses"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": False}
PARIS = use_tool("get_weather", {"city": "Paris"})


@pytest.fixture(scope="module")
def live(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, warm=1, max_live=8) as stack:
        yield stack


def asked(*words: object) -> str:
    return " ".join(str(word) for word in words)


async def test_a_response_is_answered_and_kept(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    response = await sdk.responses.create(
        model="agent",
        input=asked(marker, say("Hello there.")),
        instructions="SYSTEM-WORD",
        metadata={"a": "b"},
    )
    assert response.output_text == "Hello there."
    assert (response.status, response.metadata) == ("completed", {"a": "b"})
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert "SYSTEM-WORD" in model.call(marker).system
    assert (await sdk.responses.retrieve(response.id)).model_dump() == response.model_dump()


async def test_a_stream_tells_what_the_response_then_holds(sdk: AsyncOpenAI) -> None:
    async with sdk.responses.stream(model="agent", input=asked(script(tokens(20)))) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert len(deltas) == 20
    assert "".join(deltas) == final.output_text
    assert (await sdk.responses.retrieve(final.id)).output_text == final.output_text


async def test_thinking_is_a_summary_when_it_is_asked_for(sdk: AsyncOpenAI) -> None:
    words = asked(script(think("I ponder."), text("Done.")))
    shown = await sdk.responses.create(model="agent", input=words, reasoning={"summary": "auto"})
    assert [item.type for item in shown.output] == ["reasoning", "message"]
    assert json.loads(shown.model_dump_json())["output"][0]["summary"][0]["text"] == "I ponder."
    plain = await sdk.responses.create(model="agent", input=words)
    assert [item.type for item in plain.output] == ["message"]


async def test_the_agents_own_tools_are_items_when_they_are_asked_for(http: httpx.AsyncClient) -> None:
    words = asked(script(call(use_tool("Bash", {"command": "true"})), call(text("Done."))))
    body = {"model": "agent", "input": words, "backline": {"show": ["tools"]}}
    shown = (await http.post(PATH, json=body)).json()
    assert [item["type"] for item in shown["output"]] == ["backline_tool_call", "message"]
    assert (shown["output"][0]["name"], shown["output"][0]["status"]) == ("Bash", "completed")


async def test_no_more_tools_are_called_than_the_request_allows(http: httpx.AsyncClient) -> None:
    """In one message, over messages, and in a conversation that began without a limit."""
    run = use_tool("Bash", {"command": "true"})
    shown = {"model": "agent", "backline": {"show": ["tools"]}, "max_tool_calls": 1}
    words = asked(script(call(run, run), call(run), call(text("Done."))))
    first = (await http.post(PATH, json={**shown, "input": words})).json()
    *calls, message = first["output"]
    assert [item["is_error"] for item in calls] == [False, True, True]
    assert (first["max_tool_calls"], message["content"][0]["text"]) == (1, "Done.")
    assert "ignored" not in first["backline"]
    unlimited = (await http.post(PATH, json={"model": "agent", "input": asked(say("Hi."))})).json()
    words = asked(script(call(run, run), call(text("Done."))))
    then = {**shown, "input": words, "previous_response_id": unlimited["id"]}
    *calls, _ = (await http.post(PATH, json=then)).json()["output"]
    assert [item["is_error"] for item in calls] == [False, True]


async def test_a_pydantic_model_is_parsed(sdk: AsyncOpenAI) -> None:
    class Place(BaseModel):
        city: str

    words = asked(say('{"city": "Paris"}'))
    response = await sdk.responses.parse(model="agent", input=words, text_format=Place)
    assert response.output_parsed == Place(city="Paris")


async def test_the_token_limit_leaves_an_incomplete_response(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    words = asked(marker, script(call(tokens(5), stop_reason="max_tokens")))
    response = await sdk.responses.create(model="agent", input=words, max_output_tokens=16)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text
    assert model.calls(marker)[0].body["max_tokens"] == 16


async def test_a_response_goes_on_from_the_previous_one_in_the_same_process(
    live: Stack, model: Model, marker: str
) -> None:
    async with live.sdk() as sdk:
        first = await sdk.responses.create(
            model="agent", input=asked(marker, script(think("Hm."), text("One."))), instructions="FIRST-WORD"
        )
        second = await sdk.responses.create(
            model="agent", input=asked(marker, say("Two.")), previous_response_id=first.id
        )
        third = await sdk.responses.create(
            model="agent", input=asked(marker, say("Three.")), previous_response_id=second.id
        )
    said = model.calls(marker)[-1].said
    assert [texts for role, texts in said if role == "assistant"] == [["One."], ["Two."]]
    assert (third.output_text, third.previous_response_id) == ("Three.", second.id)
    assert "FIRST-WORD" not in model.calls(marker)[1].system
    sessions = [response.model_dump()["backline"]["session_id"] for response in (second, third)]
    assert sessions[0] == sessions[1]


@pytest.mark.parametrize("by", ["id", "items"])
async def test_a_function_is_called_and_its_output_told(
    live: Stack, model: Model, marker: str, by: str
) -> None:
    words = asked(marker, script(call(PARIS), call(text("It rains."))))
    async with live.sdk() as sdk:
        first = await sdk.responses.create(model="agent", input=words, tools=[WEATHER])
        (made,) = first.output
        assert made.type == "function_call"
        assert (made.name, json.loads(made.arguments)) == ("get_weather", {"city": "Paris"})
        output: Any = {"type": "function_call_output", "call_id": made.call_id, "output": "Rain."}
        if by == "id":
            second = await sdk.responses.create(
                model="agent", input=[output], previous_response_id=first.id, tools=[WEATHER]
            )
        else:
            items: Any = [{"role": "user", "content": words}, made.model_dump(exclude_none=True), output]
            second = await sdk.responses.create(model="agent", input=items, tools=[WEATHER])
    assert second.output_text == "It rains."
    role, blocks = model.calls(marker)[-1].turns[-1]
    assert (role, blocks[0]["type"], blocks[0]["tool_use_id"]) == ("user", "tool_result", made.call_id)


async def test_a_function_call_streams_its_arguments(sdk: AsyncOpenAI) -> None:
    words = asked(script(call(text("I look."), PARIS)))
    async with sdk.responses.stream(model="agent", input=words, tools=[WEATHER]) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert [item.type for item in final.output] == ["message", "function_call"]
    assert json.loads("".join(pieces)) == {"city": "Paris"}


async def test_a_custom_tool_is_called_with_a_text(sdk: AsyncOpenAI) -> None:
    words = asked(script(call(use_tool("note", {"input": "Buy milk"}))))
    response = await sdk.responses.create(
        model="agent", input=words, tools=[{"type": "custom", "name": "note"}]
    )
    (made,) = response.output
    assert made.type == "custom_tool_call"
    assert (made.name, made.input) == ("note", "Buy milk")


async def test_a_tool_of_a_namespace_goes_by_both_names(http: httpx.AsyncClient) -> None:
    space = {"type": "namespace", "name": "sky", "description": "The sky.", "tools": [WEATHER]}
    words = asked(script(call(use_tool("sky__get_weather", {"city": "Paris"}))))
    answer = (await http.post(PATH, json={"model": "agent", "input": words, "tools": [space]})).json()
    (made,) = answer["output"]
    assert (made["namespace"], made["name"]) == ("sky", "get_weather")


async def test_an_item_can_be_named_instead_of_sent(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    first = await sdk.responses.create(model="agent", input=asked(marker, say("One.")))
    asked_item = (await sdk.responses.input_items.list(first.id)).data[0]
    items: Any = [
        {"type": "item_reference", "id": asked_item.id},
        {"type": "item_reference", "id": first.output[0].id},
        {"role": "user", "content": asked(marker, say("Two."))},
    ]
    await sdk.responses.create(model="agent", input=items)
    assert [role for role, _ in model.calls(marker)[-1].said] == ["user", "assistant", "user"]
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model="agent", input=[{"type": "item_reference", "id": "msg_none"}])


async def test_a_conversation_takes_a_response_in(stack: Stack, model: Model, marker: str) -> None:
    async with stack.sdk() as sdk:
        conversation = await sdk.conversations.create()
        first = await sdk.responses.create(
            model="agent", input=asked(marker, say("One.")), conversation=conversation.id
        )
        assert first.conversation is not None
        assert first.conversation.id == conversation.id
        await sdk.responses.create(
            model="agent", input=asked(marker, say("Two.")), conversation={"id": conversation.id}
        )
        items = await sdk.conversations.items.list(conversation.id, order="asc")
        assert [item.role for item in items.data if item.type == "message"] == ["user", "assistant"] * 2
        with pytest.raises(openai.NotFoundError) as refusal:
            await sdk.responses.create(model="agent", input="Hello?", conversation="conv_none")
    assert (refusal.value.code, refusal.value.param) == ("conversation_not_found", "conversation")
    assert [texts for role, texts in model.calls(marker)[-1].said if role == "assistant"] == [["One."]]


def test_input_items_are_listed_in_pages(sync_sdk: OpenAI) -> None:
    items: Any = [{"role": "user", "content": f"{n}"} for n in range(4)]
    items.append({"role": "user", "content": str(say("Counted."))})
    response = sync_sdk.responses.create(model="agent", input=items)
    listed = list(sync_sdk.responses.input_items.list(response.id, limit=2, order="asc"))
    texts = [json.loads(item.model_dump_json())["content"][0]["text"] for item in listed]
    assert texts[:4] == ["0", "1", "2", "3"]
    assert len({item.id for item in listed}) == 5
    newest = sync_sdk.responses.input_items.list(response.id, limit=1)
    assert newest.data[0].id == listed[-1].id


async def test_what_is_deleted_or_was_not_to_be_stored_is_gone(
    sdk: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    kept = await sdk.responses.create(model="agent", input=asked(say("Kept.")))
    await sdk.responses.delete(kept.id)
    passing = await sdk.responses.create(model="agent", input=asked(say("Passing.")), store=False)
    for response_id in (kept.id, passing.id, "resp_none"):
        gone = await http.get(f"{PATH}/{response_id}")
        check_envelope(gone, 404, "response_not_found", param="response_id")
        for method, below in (("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")):
            answer = await http.request(method, f"{PATH}/{response_id}{below}")
            assert answer.status_code == 404
        with pytest.raises(openai.BadRequestError) as refusal:
            await sdk.responses.create(model="agent", input="Hello?", previous_response_id=response_id)
        assert (refusal.value.code, refusal.value.param) == (
            "previous_response_not_found",
            "previous_response_id",
        )


async def test_an_early_failure_has_a_status_of_its_own(http: httpx.AsyncClient) -> None:
    for stream in (False, True):
        body = {"model": "agent", "input": asked(script(fail(529))), "stream": stream}
        check_envelope(await http.post(PATH, json=body), 503, "upstream_overloaded")
    check_envelope(
        await http.post(PATH, json={"model": "none", "input": "?"}), 404, "model_not_found", param="model"
    )
    check_envelope(
        await http.post(PATH, json={"input": "?"}), 400, "missing_required_parameter", param="model"
    )


async def test_a_failure_in_mid_stream_is_told_and_kept(sdk: AsyncOpenAI) -> None:
    words = asked(script(text("So far "), fail(529)))
    stream = await sdk.responses.create(model="agent", input=words, stream=True)
    events = [event async for event in stream]
    failed = events[-1]
    assert failed.type == "response.failed"
    assert failed.response.error is not None
    assert failed.response.error.code == "server_error"
    assert failed.response.output_text.startswith("So far")
    assert (await sdk.responses.retrieve(failed.response.id)).status == "failed"


async def test_a_disconnect_cancels_the_run(http: httpx.AsyncClient, model: Model, marker: str) -> None:
    body = {"model": "agent", "input": asked(marker, script(tokens(600, pace_ms=50))), "stream": True}
    async with http.stream("POST", PATH, json=body) as answer:
        async for line in answer.aiter_lines():
            if "output_text.delta" in line:
                break
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "the model call ends")


async def test_what_has_no_effect_is_named(http: httpx.AsyncClient) -> None:
    body = {
        "model": "agent",
        "input": asked(say("Yes.")),
        "tools": [{"type": "web_search"}],
        "no_such_field": 1,
        "client_metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "k",
    }
    answer = (await http.post(PATH, json=body)).json()
    assert answer["backline"]["ignored"] == ["no_such_field", "tools.web_search"]
    assert answer["prompt_cache_key"] == "k"
