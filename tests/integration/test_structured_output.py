"""An answer that is to be JSON is just that, or an error says so."""

from __future__ import annotations

import openai
import pytest
from pydantic import BaseModel

from scripted_model import call, say, script, text, use_tool
from tests.support.asking import ask, stream, user
from tests.support.stack import Stack

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}
PERSON = '{"name": "Ada", "age": 36}'


class Person(BaseModel):
    name: str
    age: int


async def test_the_sdk_parses_an_answer(stack: Stack) -> None:
    async with stack.sdk() as client:
        answer = await client.chat.completions.parse(
            model="agent", messages=[user("Who?", say(PERSON))], response_format=Person
        )
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


async def test_who_tries_it_without_a_script_gets_an_object_too(stack: Stack) -> None:
    """As in the demo, whose model answers everybody."""
    async with stack.sdk() as client:
        answer = await client.chat.completions.parse(
            model="agent", messages=[user("Who is it?")], response_format=Person
        )
    assert answer.choices[0].message.parsed == Person(name="canned", age=0)


async def test_the_model_is_held_to_the_schema(stack: Stack) -> None:
    async with stack.sdk() as client:
        await ask(client, "held-to-schema", say(PERSON), response_format=FORMAT)
    sent = stack.model.call("held-to-schema").body["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    age = sent["schema"]["properties"]["age"]
    assert (age["type"], age["description"]) == ("integer", "(minimum: 0)")


async def test_it_streams_as_text(stack: Stack) -> None:
    async with stack.sdk() as client:
        pieces = [
            choice.delta.content or ""
            async for chunk in stream(client, say(PERSON), response_format=FORMAT)
            for choice in chunk.choices
        ]
    assert "".join(pieces) == PERSON
    assert len([piece for piece in pieces if piece]) > 2


async def test_words_and_fences_around_the_object_are_left_out(stack: Stack) -> None:
    fenced = f"Here it is:\n```json\n{PERSON}\n```\nAnything else?"
    async with stack.sdk() as client:
        answer = await ask(client, say(fenced), response_format={"type": "json_object"})
    assert answer.choices[0].message.content == PERSON


async def test_what_the_agent_says_while_it_works_is_not_the_answer(stack: Stack) -> None:
    plan = script(call(text("I look."), use_tool("Bash", {"command": "true"})), call(text(PERSON)))
    async with stack.sdk() as client:
        answer = await ask(client, plan, response_format=FORMAT)
    assert answer.choices[0].message.content == PERSON


@pytest.mark.parametrize("said", ["No JSON.", '{"name": "Ada"}', '{"name": "Ada", "age": -1}', '{"name": '])
async def test_an_answer_that_does_not_fit_is_an_error(stack: Stack, said: str) -> None:
    async with stack.sdk() as client:
        with pytest.raises(openai.InternalServerError) as error:
            await ask(client, say(said), response_format=FORMAT)
    assert error.value.code == "invalid_output"


async def test_a_stream_whose_answer_does_not_fit_ends_in_an_error(stack: Stack) -> None:
    async with stack.sdk() as client:
        with pytest.raises(openai.APIError) as error:
            async for _ in stream(client, say('{"name": "Ada"}'), response_format=FORMAT):
                pass
    assert error.value.code == "invalid_output"


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal_is_one(stack: Stack, *, is_stream: bool) -> None:
    plan = script(call(text("I would rather not."), stop_reason="refusal"))
    async with stack.sdk() as client:
        if is_stream:
            choices = [
                c
                for chunk in [c async for c in stream(client, plan, response_format=FORMAT)]
                for c in chunk.choices
            ]
            refusal = "".join(choice.delta.refusal or "" for choice in choices)
            assert "".join(choice.delta.content or "" for choice in choices) == ""
            assert choices[-1].finish_reason == "stop"
        else:
            parsed = await client.chat.completions.parse(
                model="agent", messages=[user(plan)], response_format=Person
            )
            refusal = parsed.choices[0].message.refusal or ""
            assert parsed.choices[0].message.parsed is None
    assert "declined" in refusal
