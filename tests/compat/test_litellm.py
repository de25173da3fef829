"""LiteLLM's SDK, by its provider `openai`."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from scripted_model import Script
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    MODEL,
    PNG,
    PNG_URL,
    REQUIRED,
    WEATHER,
    WORDS,
    Person,
    broken,
    endless,
    is_json,
    one_call,
    person,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.asking import user
from tests.support.model import Model

pytestmark = [
    pytest.mark.client("LiteLLM (Python)"),
    # It reads pydantic's models in a way that pydantic gives up.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
]


class Lite:
    """`litellm.completion` pointed at the API."""

    def __init__(self, url: str) -> None:
        # On import it fetches a list of prices, unless it is told to use its own.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
            import litellm  # noqa: PLC0415

        self.lite: Any = litellm
        self._url = url

    def ask(self, *messages: Any, model: str = MODEL, **fields: Any) -> Any:
        return self.lite.completion(
            model=f"openai/{model}",
            api_base=self._url,
            api_key="unused",
            max_retries=0,
            messages=list(messages),
            **fields,
        )

    def finish(self, history: list[Any], message: Any) -> str:
        """Answer the calls of `message`; gives the final text."""
        results = [
            {"role": "tool", "tool_call_id": made.id, "content": weather(made.function.arguments)}
            for made in message.tool_calls
        ]
        answer = self.ask(*history, message.model_dump(), *results, tools=[WEATHER])
        return str(answer.choices[0].message.content)


@pytest.fixture
def lite(url: str) -> Lite:
    return Lite(url)


def asked(marker: str, script: Script) -> Any:
    return user(marker, script)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(lite: Lite, marker: str) -> None:
    answer = lite.ask(asked(marker, words()))
    assert answer.choices[0].message.content == WORDS
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(lite: Lite, marker: str) -> None:
    chunks = list(lite.ask(asked(marker, words()), stream=True))
    pieces = [text for chunk in chunks if (text := chunk.choices[0].delta.content)]
    assert len(pieces) > 1
    assert "".join(pieces) == WORDS


@pytest.mark.feature("usage in a stream")
def test_a_stream_has_the_usage(lite: Lite, marker: str) -> None:
    options = {"include_usage": True}
    chunks = list(lite.ask(asked(marker, words()), stream=True, stream_options=options))
    (usage,) = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None)]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


@pytest.mark.feature("tools")
def test_a_call_comes_and_its_result_goes_back(lite: Lite, model: Model, marker: str) -> None:
    history = [asked(marker, one_call())]
    answer = lite.ask(*history, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert lite.finish(history, answer.choices[0].message) == FINAL
    assert "sunny in" in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
def test_two_calls_come_at_once(lite: Lite, marker: str) -> None:
    history = [asked(marker, two_calls())]
    message = lite.ask(*history, tools=[WEATHER]).choices[0].message
    assert [CITIES[n] in made.function.arguments for n, made in enumerate(message.tool_calls)] == [True, True]
    assert lite.finish(history, message) == FINAL


@pytest.mark.feature("streamed tools")
def test_streamed_calls_add_up(lite: Lite, marker: str) -> None:
    history = [asked(marker, two_calls())]
    chunks = list(lite.ask(*history, tools=[WEATHER], stream=True))
    whole = lite.lite.stream_chunk_builder(chunks, messages=history)
    message = whole.choices[0].message
    assert whole.choices[0].finish_reason == "tool_calls"
    assert [made.function.name for made in message.tool_calls] == ["get_weather", "get_weather"]
    assert all(is_json(made.function.arguments) for made in message.tool_calls)
    assert lite.finish(history, message) == FINAL


@pytest.mark.feature("tool_choice")
def test_a_tool_choice_reaches_the_model(lite: Lite, model: Model, marker: str) -> None:
    lite.ask(asked(marker, one_call()), tools=[WEATHER], tool_choice="required")
    assert model.calls(marker)[0].body["tool_choice"]["type"] in REQUIRED


@pytest.mark.feature("structured output")
def test_an_answer_follows_a_schema(lite: Lite, model: Model, marker: str) -> None:
    answer = lite.ask(asked(marker, person()), response_format=Person)
    assert Person.model_validate_json(answer.choices[0].message.content) == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(lite: Lite, model: Model, marker: str) -> None:
    image = {"type": "image_url", "image_url": {"url": PNG_URL}}
    text = {"type": "text", "text": f"{marker} {words()}"}
    lite.ask({"role": "user", "content": [text, image]})
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_errors_are_told_apart(lite: Lite, marker: str) -> None:
    with pytest.raises(lite.lite.NotFoundError):
        lite.ask(asked(marker, words()), model="nobody")
    with pytest.raises(lite.lite.BadRequestError):
        lite.ask(asked(marker, words()), temperature=3)
    with pytest.raises(lite.lite.RateLimitError):
        lite.ask(asked(marker, refused(429)))


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(lite: Lite, marker: str) -> None:
    with pytest.raises(openai.APIError):  # of which all of its errors are
        list(lite.ask(asked(marker, broken()), stream=True))


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_closing_the_stream_ends_the_run(lite: Lite, marker: str) -> None:
    stream = lite.ask(asked(marker, endless()), stream=True)
    assert next(text for chunk in stream if (text := chunk.choices[0].delta.content)) == "t0"
    stream.completion_stream.close()


@pytest.mark.feature("n > 1")
def test_two_choices_are_two(lite: Lite, marker: str) -> None:
    answer = lite.ask(asked(marker, words()), n=2)
    assert [choice.message.content for choice in answer.choices] == [WORDS, WORDS]


@pytest.mark.feature("completions")
def test_legacy_completions_answer(lite: Lite, marker: str) -> None:
    answer = lite.lite.text_completion(
        model=f"text-completion-openai/{MODEL}",
        prompt=f"{marker} {words()}",
        api_base=lite._url,
        api_key="unused",
        max_retries=0,
    )
    assert answer.choices[0].text == WORDS
