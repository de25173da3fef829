"""LangChain's `ChatOpenAI`."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from scripted_model import Script
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    MODEL,
    NAMED,
    PNG,
    PNG_URL,
    REQUIRED,
    WORDS,
    Person,
    broken,
    endless,
    one_call,
    person,
    person_by_call,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.model import Model

pytestmark = pytest.mark.client("LangChain (Python)")


@tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return weather(city)


@pytest.fixture
def chat(url: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=url, api_key=SecretStr("unused"), model=MODEL, max_retries=0)


def asked(marker: str, script: Script) -> str:
    return f"{marker} {script}"


def finish(chat: Any, history: list[BaseMessage], message: AIMessage) -> str:
    """Answer the calls of `message`; gives the final text."""
    results = [get_weather.invoke(made) for made in message.tool_calls]
    return str(chat.invoke([*history, message, *results]).content)


def arguments(message: AIMessage) -> list[Any]:
    return [made["args"] for made in message.tool_calls]


@pytest.mark.feature("answer")
async def test_an_answer_is_whole(chat: ChatOpenAI, marker: str) -> None:
    assert chat.invoke(asked(marker, words())).content == WORDS
    assert (await chat.ainvoke(asked(marker, words()))).content == WORDS


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(chat: ChatOpenAI, marker: str) -> None:
    pieces = [str(chunk.content) for chunk in chat.stream(asked(marker, words())) if chunk.content]
    assert len(pieces) > 1
    assert "".join(pieces) == WORDS


@pytest.mark.feature("usage in a stream")
def test_a_stream_has_the_usage(chat: ChatOpenAI, marker: str) -> None:
    found = [chunk.usage_metadata for chunk in chat.stream(asked(marker, words()), stream_usage=True)]
    (usage,) = [usage for usage in found if usage]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0


@pytest.mark.feature("tools")
def test_a_call_comes_and_its_result_goes_back(chat: ChatOpenAI, model: Model, marker: str) -> None:
    bound = chat.bind_tools([get_weather])
    history: list[BaseMessage] = [HumanMessage(asked(marker, one_call()))]
    answer = bound.invoke(history)
    assert arguments(answer) == [{"city": CITIES[0]}]
    assert finish(bound, history, answer) == FINAL
    assert weather(CITIES[0]) in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
def test_two_calls_come_at_once(chat: ChatOpenAI, marker: str) -> None:
    bound = chat.bind_tools([get_weather])
    history: list[BaseMessage] = [HumanMessage(asked(marker, two_calls()))]
    answer = bound.invoke(history)
    assert arguments(answer) == [{"city": city} for city in CITIES]
    assert finish(bound, history, answer) == FINAL


@pytest.mark.feature("streamed tools")
def test_streamed_calls_add_up(chat: ChatOpenAI, marker: str) -> None:
    bound = chat.bind_tools([get_weather])
    history: list[BaseMessage] = [HumanMessage(asked(marker, two_calls()))]
    whole: Any = None
    for chunk in bound.stream(history):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    assert arguments(whole) == [{"city": city} for city in CITIES]
    assert finish(bound, history, whole) == FINAL


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(("choice", "reached"), [("any", REQUIRED), ("get_weather", NAMED)])
def test_a_tool_choice_reaches_the_model(
    chat: ChatOpenAI, model: Model, marker: str, choice: str, reached: tuple[str, ...]
) -> None:
    bound = chat.bind_tools([get_weather], tool_choice=choice)
    assert arguments(bound.invoke(asked(marker, one_call()))) == [{"city": CITIES[0]}]
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


@pytest.mark.feature("structured output")
def test_an_answer_with_a_schema_becomes_a_model(chat: ChatOpenAI, model: Model, marker: str) -> None:
    assert chat.with_structured_output(Person).invoke(asked(marker, person())) == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("structured output")
def test_a_forced_call_becomes_a_model(chat: ChatOpenAI, marker: str) -> None:
    by_call = chat.with_structured_output(Person, method="function_calling")
    assert by_call.invoke(asked(marker, person_by_call())) == ADA


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(chat: ChatOpenAI, model: Model, marker: str) -> None:
    image: Any = {"type": "image_url", "image_url": {"url": PNG_URL}}
    text: Any = {"type": "text", "text": asked(marker, words())}
    assert chat.invoke([HumanMessage([text, image])]).content == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_a_failure_of_the_model_is_raised(chat: ChatOpenAI, marker: str) -> None:
    with pytest.raises(openai.RateLimitError):
        chat.invoke(asked(marker, refused(429)))


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(chat: ChatOpenAI, marker: str) -> None:
    with pytest.raises(openai.APIError):
        list(chat.stream(asked(marker, broken())))


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_closing_the_stream_ends_the_run(chat: ChatOpenAI, marker: str) -> None:
    stream: Any = chat.stream(asked(marker, endless()))
    assert next(chunk.content for chunk in stream if chunk.content) == "t0"
    stream.close()


@pytest.mark.feature("n > 1")
def test_two_choices_are_two(chat: ChatOpenAI, marker: str) -> None:
    result = chat.generate([[HumanMessage(asked(marker, words()))]], n=2)
    assert [generation.text for generation in result.generations[0]] == [WORDS, WORDS]
