"""The `@anthropic-ai/sdk` package for JavaScript, on the machine's own Node."""

from __future__ import annotations

from functools import partial

import pytest

from tests.compat.node import Node
from tests.compat.proxy import Proxy
from tests.compat.scenarios import Play, player
from tests.compat.scripts import (
    CITIES,
    FINAL,
    PNG,
    WORDS,
    broken,
    endless,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.model import Model

pytestmark = pytest.mark.client("anthropic (JavaScript)")


@pytest.fixture
def play(node: Node, proxy: Proxy, marker: str) -> Play:
    """Run a scenario with a script in its prompt."""
    return player(partial(node.run, "anthropic"), proxy.url, marker)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(play: Play) -> None:
    assert play("answer", words()) == {"text": WORDS, "stop": "end_turn"}


@pytest.mark.feature("stream")
@pytest.mark.feature("usage in a stream")
def test_a_stream_comes_in_pieces_and_has_the_usage(play: Play) -> None:
    said = play("stream", words())
    assert len(said["pieces"]) > 1
    assert "".join(said["pieces"]) == WORDS
    assert said["usage"]["input_tokens"] > 0
    assert said["usage"]["output_tokens"] > 0


@pytest.mark.feature("tools")
@pytest.mark.feature("parallel tools")
@pytest.mark.feature("streamed tools")
def test_two_calls_are_answered(play: Play, model: Model, marker: str) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    assert play("tools", two_calls()) == {"calls": made, "final": FINAL}
    assert weather(CITIES[1]) in model.calls(marker)[-1].everything


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(play: Play, model: Model, marker: str) -> None:
    assert play("image", words(), image=PNG) == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_a_failure_of_the_model_is_raised(play: Play) -> None:
    assert play("error", refused(429)) == {"kind": "RateLimitError", "status": 429}


@pytest.mark.feature("mid-stream errors")
def test_an_error_in_mid_stream_is_raised(play: Play) -> None:
    said = play("streamError", broken())
    assert said["text"] == "so far "
    assert "overloaded" in said["said"]


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_aborting_ends_the_run(play: Play) -> None:
    assert play("cancel", endless())
