"""The AI SDK (`ai`) with `@ai-sdk/openai-compatible`, on the machine's own Node."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.compat.node import Node
from tests.compat.proxy import Proxy
from tests.compat.scenarios import Play, player
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    NAMED,
    PNG,
    PNG_URL,
    REQUIRED,
    WEATHER,
    WORDS,
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

pytestmark = pytest.mark.client("AI SDK (JavaScript)")


@pytest.fixture
def play(node: Node, url: str, marker: str) -> Play:
    """Run a scenario with a script in its prompt."""
    return player(partial(node.run, "ai-sdk"), url, marker)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(play: Play) -> None:
    assert play("answer", words()) == {"text": WORDS, "finish": "stop"}


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(play: Play) -> None:
    said = play("stream", words())
    assert len(said["pieces"]) > 1
    assert "".join(said["pieces"]) == WORDS
    assert said["finish"] == "stop"


@pytest.mark.feature("usage in a stream")
def test_a_stream_has_the_usage(play: Play) -> None:
    usage = play("stream", words())["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"] > 0


@pytest.mark.feature("tools")
def test_a_call_is_answered(play: Play, model: Model, marker: str) -> None:
    done = play("tools", one_call(), tools=[WEATHER])
    assert done == {"calls": [["get_weather", {"city": CITIES[0]}]], "final": FINAL}
    assert weather(CITIES[0]) in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
def test_two_calls_are_answered(play: Play) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    assert play("tools", two_calls(), tools=[WEATHER]) == {"calls": made, "final": FINAL}


@pytest.mark.feature("streamed tools")
def test_streamed_calls_are_answered(play: Play) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    assert play("streamedTools", two_calls(), tools=[WEATHER]) == {"calls": made, "final": FINAL}


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(
    ("choice", "reached"), [("required", REQUIRED), ({"type": "tool", "toolName": "get_weather"}, NAMED)]
)
def test_a_tool_choice_reaches_the_model(
    play: Play, model: Model, marker: str, choice: Any, reached: tuple[str, ...]
) -> None:
    assert play("toolChoice", one_call(), tools=[WEATHER], choice=choice)[0][0] == "get_weather"
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


@pytest.mark.feature("structured output")
def test_an_object_is_generated(play: Play, model: Model, marker: str) -> None:
    assert play("structured", person()) == ADA.model_dump()
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(play: Play, model: Model, marker: str) -> None:
    assert play("image", words(), image=PNG_URL) == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
@pytest.mark.parametrize(("upstream", "status"), [(429, 429), (529, 503)])
def test_a_failure_of_the_model_is_raised(play: Play, upstream: int, status: int) -> None:
    said = play("error", refused(upstream))
    assert (said["name"], said["statusCode"]) == ("AI_APICallError", status)


@pytest.mark.feature("errors")
def test_an_unknown_model_is_not_repeated(play: Play, proxy: Proxy) -> None:
    said = play("error", words(), model="nobody", maxRetries=2)
    assert (said["statusCode"], said["isRetryable"]) == (404, False)
    assert len(proxy.exchanges) == 1


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_told(play: Play) -> None:
    said = play("streamError", broken())
    assert len(said["errors"]) == 1
    assert "overloaded" in said["errors"][0]
    assert said["text"] == "so far "


@pytest.mark.feature("retries")
def test_what_was_never_accepted_is_repeated(play: Play, proxy: Proxy, unserved: str) -> None:
    assert play("error", words(), model=unserved, maxRetries=1)["statusCode"] == 503
    assert len(proxy.exchanges) == 2


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_aborting_ends_the_run(play: Play) -> None:
    assert play("cancel", endless())
