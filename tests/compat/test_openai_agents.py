"""The OpenAI Agents SDK, on Responses and on Chat Completions: it answers tool calls by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    RunResult,
    RunResultStreaming,
    function_tool,
)
from agents.exceptions import ModelBehaviorError
from openai import AsyncOpenAI

from scripted_model import say
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    MODEL,
    NAMED,
    PNG_URL,
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

pytestmark = [
    pytest.mark.client("openai-agents (Python)"),
    # Its synchronous runner leaves an event loop for the collector to close.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

QUIET = RunConfig(tracing_disabled=True)


@function_tool
def get_weather(city: str) -> str:
    """Weather of a city."""
    return weather(city)


Spoken = OpenAIChatCompletionsModel | OpenAIResponsesModel


@pytest.fixture(params=[OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"])
async def spoken(url: str, request: pytest.FixtureRequest) -> AsyncIterator[Spoken]:
    """The SDK's model in each of the two APIs that it speaks; Responses is its default."""
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield request.param(model=MODEL, openai_client=client)


async def run(spoken: Spoken, *asked: object, **fields: Any) -> RunResult:
    agent = Agent(name="Tester", instructions="Be brief.", model=spoken, **fields)
    return await Runner.run(agent, " ".join(map(str, asked)), run_config=QUIET)


def start(spoken: Spoken, *asked: object, **fields: Any) -> RunResultStreaming:
    agent = Agent(name="Tester", instructions="Be brief.", model=spoken, **fields)
    return Runner.run_streamed(agent, " ".join(map(str, asked)), run_config=QUIET)


async def pieces(result: RunResultStreaming) -> list[str]:
    return [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
    ]


@pytest.mark.feature("answer")
async def test_an_answer_is_whole(spoken: Spoken, marker: str) -> None:
    assert (await run(spoken, marker, words())).final_output == WORDS


@pytest.mark.feature("responses")
async def test_a_conversation_is_linked_by_its_responses(url: str, marker: str) -> None:
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        agent = Agent(name="Tester", model=OpenAIResponsesModel(model=MODEL, openai_client=client))
        first = await Runner.run(agent, f"{marker} {words()}", run_config=QUIET)
        then = await Runner.run(
            agent, f"{say('Again.')}", run_config=QUIET, previous_response_id=first.last_response_id
        )
    assert (first.final_output, then.final_output) == (WORDS, "Again.")


@pytest.mark.feature("stream")
async def test_a_stream_comes_in_pieces(spoken: Spoken, marker: str) -> None:
    said = await pieces(start(spoken, marker, words()))
    assert len(said) > 1
    assert "".join(said) == WORDS


@pytest.mark.feature("usage in a stream")
async def test_a_stream_has_the_usage(spoken: Spoken, marker: str) -> None:
    result = start(spoken, marker, words(), model_settings=ModelSettings(include_usage=True))
    await pieces(result)
    usage = result.context_wrapper.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


@pytest.mark.feature("tools")
async def test_a_call_is_answered(spoken: Spoken, model: Model, marker: str) -> None:
    assert (await run(spoken, marker, one_call(), tools=[get_weather])).final_output == FINAL
    assert weather(CITIES[0]) in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
async def test_two_calls_are_answered(spoken: Spoken, model: Model, marker: str) -> None:
    assert (await run(spoken, marker, two_calls(), tools=[get_weather])).final_output == FINAL
    reached = model.calls(marker)[-1].everything
    assert all(weather(city) in reached for city in CITIES)


@pytest.mark.feature("streamed tools")
async def test_streamed_calls_are_answered(spoken: Spoken, marker: str) -> None:
    result = start(spoken, marker, two_calls(), tools=[get_weather])
    assert "".join(await pieces(result)) == FINAL
    assert result.final_output == FINAL


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(("choice", "reached"), [("required", REQUIRED), ("get_weather", NAMED)])
async def test_a_tool_choice_reaches_the_model(
    spoken: Spoken, model: Model, marker: str, choice: str, reached: tuple[str, ...]
) -> None:
    settings = ModelSettings(tool_choice=choice)
    await run(spoken, marker, one_call(), tools=[get_weather], model_settings=settings)
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


@pytest.mark.feature("structured output")
async def test_an_output_type_is_filled(spoken: Spoken, model: Model, marker: str) -> None:
    assert (await run(spoken, marker, person(), output_type=Person)).final_output == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
async def test_an_image_reaches_the_model(spoken: Spoken, model: Model, marker: str) -> None:
    asked: Any = {
        "role": "user",
        "content": [
            {"type": "input_text", "text": f"{marker} {words()}"},
            {"type": "input_image", "image_url": PNG_URL, "detail": "auto"},
        ],
    }
    result = await Runner.run(Agent(name="Tester", model=spoken), [asked], run_config=QUIET)
    assert result.final_output == WORDS
    assert PNG_URL.partition(",")[2] in model.call(marker).everything


@pytest.mark.feature("errors")
async def test_a_failure_of_the_model_is_raised(spoken: Spoken, marker: str) -> None:
    with pytest.raises(openai.RateLimitError):
        await run(spoken, marker, refused(429))


@pytest.mark.feature("mid-stream errors")
async def test_an_error_in_mid_stream_is_raised(spoken: Spoken, marker: str) -> None:
    with pytest.raises((openai.APIError, ModelBehaviorError)):
        await pieces(start(spoken, marker, broken()))


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
async def test_cancelling_ends_the_run(spoken: Spoken, marker: str) -> None:
    result = start(spoken, marker, endless())
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            result.cancel()
