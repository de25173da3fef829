"""The `openai` package for Python: functions of the client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessage

from tests.compat.scripts import (
    CITIES,
    FINAL,
    MODEL,
    NAMED,
    REQUIRED,
    WEATHER,
    is_json,
    one_call,
    two_calls,
    weather,
)
from tests.support.asking import text_of, user
from tests.support.model import Model

pytestmark = pytest.mark.client("openai (Python)")


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


def finish(client: OpenAI, history: list[Any], message: ChatCompletionMessage) -> str:
    """Answer the calls of `message`; gives the final text."""
    history.append(message.to_dict())
    for id_, _, arguments in called(message):
        history.append({"role": "tool", "tool_call_id": id_, "content": weather(arguments["city"])})
    answer = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "stop"
    return text_of(answer)


@pytest.mark.feature("tools")
def test_a_call_comes_and_its_result_goes_back(client: OpenAI, model: Model, marker: str) -> None:
    history: list[Any] = [user(marker, one_call())]
    answer = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    made = called(choice.message)
    assert [(name, arguments) for _, name, arguments in made] == [("get_weather", {"city": CITIES[0]})]
    assert finish(client, history, choice.message) == FINAL
    first, second = model.calls(marker)
    assert "get_weather" in [tool["name"] for tool in first.body["tools"]]
    assert "sunny in" in second.everything


@pytest.mark.feature("parallel tools")
def test_two_calls_come_at_once(client: OpenAI, marker: str) -> None:
    history: list[Any] = [user(marker, two_calls())]
    answer = client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    made = called(answer.choices[0].message)
    assert [arguments["city"] for _, _, arguments in made] == list(CITIES)
    assert len({id_ for id_, _, _ in made}) == 2
    assert finish(client, history, answer.choices[0].message) == FINAL


@pytest.mark.feature("streamed tools")
def test_a_streamed_calls_id_and_name_come_once(client: OpenAI, marker: str) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=[user(marker, two_calls())], tools=[WEATHER], stream=True
    ) as stream:
        choices = [choice for chunk in stream for choice in chunk.choices]
    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or []]
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]
    for index in (0, 1):
        of_one = [piece for piece in pieces if piece.index == index]
        assert of_one[0].id
        assert all(piece.id is None and piece.type is None for piece in of_one[1:])
        assert of_one[0].function
        assert of_one[0].function.name == "get_weather"
        assert all(piece.function and piece.function.name is None for piece in of_one[1:])
        assert is_json("".join(str(piece.function.arguments or "") for piece in of_one if piece.function))


@pytest.mark.feature("streamed tools")
def test_the_stream_helper_accumulates_calls(client: OpenAI, marker: str) -> None:
    history: list[Any] = [user(marker, two_calls())]
    with client.chat.completions.stream(model=MODEL, messages=history, tools=[WEATHER]) as stream:
        final = stream.get_final_completion()
    made = called(final.choices[0].message)
    assert [arguments["city"] for _, _, arguments in made] == list(CITIES)
    assert finish(client, history, final.choices[0].message) == FINAL


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(
    ("choice", "reached"),
    [
        ("required", REQUIRED),
        ({"type": "function", "function": {"name": "get_weather"}}, NAMED),
    ],
)
def test_a_tool_choice_reaches_the_model(
    client: OpenAI, model: Model, marker: str, choice: Any, reached: tuple[str, ...]
) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=[user(marker, one_call())], tools=[WEATHER], tool_choice=choice
    )
    assert called(answer.choices[0].message)[0][1] == "get_weather"
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


def called(message: ChatCompletionMessage) -> list[tuple[str, str, dict[str, Any]]]:
    """Id, name and arguments of each call."""
    return [
        (made.id, made.function.name, msgspec.json.decode(made.function.arguments))
        for made in message.tool_calls or []
        if made.type == "function"
    ]
