"""The `openai` package for JavaScript, on the machine's own Node."""

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
    MODEL,
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

pytestmark = pytest.mark.client("openai (JavaScript)")


@pytest.fixture
def play(node: Node, url: str, marker: str) -> Play:
    """Run a scenario with a script in its prompt."""
    return player(partial(node.run, "openai"), url, marker)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(play: Play) -> None:
    assert play("answer", words()) == {"text": WORDS, "finish": "stop"}


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(play: Play) -> None:
    said = play("stream", words())
    assert len(said["pieces"]) > 1
    assert "".join(said["pieces"]) == WORDS
    assert said["finishes"] == ["stop"]


@pytest.mark.feature("usage in a stream")
def test_a_stream_has_the_usage(play: Play) -> None:
    usage = play("stream", words())["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@pytest.mark.feature("tools")
def test_a_call_comes_and_its_result_goes_back(play: Play, model: Model, marker: str) -> None:
    made = [["get_weather", {"city": CITIES[0]}]]
    done = play("tools", one_call(), tools=[WEATHER])
    assert done == {"finish": "tool_calls", "calls": made, "final": FINAL}
    assert weather(CITIES[0]) in model.calls(marker)[-1].everything


@pytest.mark.feature("parallel tools")
def test_two_calls_come_at_once(play: Play) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    done = play("tools", two_calls(), tools=[WEATHER])
    assert done == {"finish": "tool_calls", "calls": made, "final": FINAL}


@pytest.mark.feature("streamed tools")
def test_streamed_calls_add_up(play: Play) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    done = play("streamedTools", two_calls(), tools=[WEATHER])
    assert done == {"finish": "tool_calls", "calls": made, "final": FINAL}


@pytest.mark.feature("tools")
def test_the_tool_runner_runs(play: Play) -> None:
    assert play("runTools", one_call(), tools=[WEATHER]) == FINAL


@pytest.mark.feature("tool_choice")
@pytest.mark.parametrize(
    ("choice", "reached"),
    [("required", REQUIRED), ({"type": "function", "function": {"name": "get_weather"}}, NAMED)],
)
def test_a_tool_choice_reaches_the_model(
    play: Play, model: Model, marker: str, choice: Any, reached: tuple[str, ...]
) -> None:
    assert play("toolChoice", one_call(), tools=[WEATHER], choice=choice)[0][0] == "get_weather"
    assert model.calls(marker)[0].body["tool_choice"]["type"] in reached


@pytest.mark.feature("structured output")
def test_an_answer_is_parsed(play: Play, model: Model, marker: str) -> None:
    assert play("structured", person()) == ADA.model_dump()
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(play: Play, model: Model, marker: str) -> None:
    assert play("image", words(), image=PNG_URL) == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_errors_are_told_apart(play: Play) -> None:
    unknown = play("error", words(), model="nobody")
    assert unknown == {"kind": "NotFoundError", "status": 404, "code": "model_not_found"}
    bad = play("error", words(), fields={"temperature": 3})
    assert bad == {"kind": "BadRequestError", "status": 400, "code": "invalid_value"}


@pytest.mark.feature("errors")
@pytest.mark.parametrize(
    ("status", "kind"), [(429, "RateLimitError"), (500, "InternalServerError"), (529, "InternalServerError")]
)
def test_a_failure_of_the_model_is_raised_and_not_repeated(
    play: Play, proxy: Proxy, status: int, kind: str
) -> None:
    assert play("error", refused(status), maxRetries=2)["kind"] == kind
    assert len(proxy.exchanges) == 1


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(play: Play) -> None:
    said = play("streamError", broken())
    assert (said["kind"], said["code"]) == ("APIError", "upstream_overloaded")
    assert said["text"] == "so far "


@pytest.mark.feature("retries")
def test_what_was_never_accepted_is_repeated(play: Play, proxy: Proxy, unserved: str) -> None:
    assert play("error", words(), model=unserved, maxRetries=1)["code"] == "agent_unavailable"
    counts = [exchange.request_headers["x-stainless-retry-count"] for exchange in proxy.exchanges]
    assert counts == ["0", "1"]


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_closing_the_stream_ends_the_run(play: Play) -> None:
    assert play("cancel", endless())


@pytest.mark.feature("n > 1")
def test_two_choices_are_two(play: Play) -> None:
    assert play("choices", words()) == [[0, WORDS], [1, WORDS]]


@pytest.mark.feature("completions")
def test_legacy_completions_answer(play: Play) -> None:
    assert play("completion", words()) == WORDS


@pytest.mark.feature("stored completions")
def test_a_stored_completion_is_found_and_deleted(play: Play) -> None:
    assert play("stored", words()) == {"isListed": True, "text": WORDS, "deleted": True}


@pytest.mark.feature("models")
def test_models_are_listed_and_shown(play: Play) -> None:
    said = play("models")
    assert MODEL in said["found"]
    assert said["one"] == MODEL
