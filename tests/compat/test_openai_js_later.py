"""The `openai` package for JavaScript with what outlives its request: responses, files, batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from scripted_model import call, script, stall, text, tokens, use_tool
from tests.compat.node import Node
from tests.compat.scenarios import Play, player
from tests.compat.scripts import MODEL, WORDS, words

pytestmark = pytest.mark.client("openai (JavaScript)")

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def play(node: Node, url: str, marker: str) -> Play:
    """Run a scenario with a script in its prompt."""
    return player(partial(node.run, "openai-later"), url, marker)


@pytest.mark.feature("responses")
def test_a_response_is_stored_listed_and_deleted(play: Play) -> None:
    assert play("response", words()) == {"text": WORDS, "again": WORDS, "items": ["message"], "isGone": True}


@pytest.mark.feature("responses")
def test_a_response_streams(play: Play) -> None:
    assert play("stream", words()) == {"text": WORDS, "joined": WORDS, "last": "response.completed"}


@pytest.mark.feature("responses")
def test_a_call_and_its_output(play: Play) -> None:
    asked = script(call(use_tool("weather", {"city": "Bergen"})), call(text("Rain.")))
    assert play("call", asked, tools=[WEATHER]) == {
        "called": ["weather", {"city": "Bergen"}],
        "text": "Rain.",
    }


@pytest.mark.feature("background responses")
def test_in_the_background_to_its_end(play: Play) -> None:
    assert play("background", words()) == {"begun": "queued", "ended": "completed", "text": WORDS}


@pytest.mark.feature("background responses")
def test_in_the_background_to_its_cancellation(play: Play) -> None:
    assert play("cancelled", script(stall(60))) == "cancelled"


@pytest.mark.feature("background responses")
def test_a_broken_stream_is_continued(play: Play) -> None:
    said = play("continued", script(tokens(40, pace_ms=20)), most=12)
    assert said == {"isWhole": True, "text": " ".join(f"t{n}" for n in range(40))}


@pytest.mark.feature("files and batches")
def test_a_batch_has_its_answers_and_its_errors(play: Play) -> None:
    def line(name: str, model: str) -> dict[str, Any]:
        body = {"model": model, "messages": [{"role": "user", "content": str(words())}]}
        return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}

    said = play("batch", lines=[line("good", MODEL), line("bad", "nobody")])
    assert said["counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert (said["answers"], said["failures"]) == ([["good", WORDS]], [["bad", 404]])
