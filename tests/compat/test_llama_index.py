"""LlamaIndex's `OpenAILike`, in an environment of its own: its `openai` is an older one."""

from __future__ import annotations

import pytest

from tests.compat.apart import Apart
from tests.compat.scenarios import Play, player
from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    PNG,
    PNG_URL,
    WORDS,
    person_by_call,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.model import Model

pytestmark = pytest.mark.client("LlamaIndex (Python)")


@pytest.fixture
def play(llama_index: Apart, url: str, marker: str) -> Play:
    """Run a scenario with a script in its prompt."""
    return player(llama_index.run, url, marker)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(play: Play) -> None:
    assert play("answer", words()) == WORDS


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(play: Play) -> None:
    pieces = play("stream", words())
    assert len(pieces) > 1
    assert "".join(pieces) == WORDS


@pytest.mark.feature("tools")
@pytest.mark.feature("parallel tools")
def test_two_calls_are_answered(play: Play, model: Model, marker: str) -> None:
    made = [["get_weather", {"city": city}] for city in CITIES]
    assert play("tools", two_calls()) == {"calls": made, "final": FINAL}
    assert weather(CITIES[1]) in model.calls(marker)[-1].everything


@pytest.mark.feature("structured output")
def test_an_answer_becomes_a_model(play: Play) -> None:
    assert play("structured", person_by_call()) == ADA.model_dump()


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(play: Play, model: Model, marker: str) -> None:
    assert play("image", words(), image=PNG_URL) == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_a_failure_of_the_model_is_raised(play: Play) -> None:
    assert play("error", refused(429)) == "RateLimitError"
