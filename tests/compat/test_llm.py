"""Simon Willison's `llm` command, set up by its own file of further models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.scripts import (
    ADA,
    CITIES,
    FINAL,
    MODEL,
    PNG,
    WORDS,
    Person,
    one_call,
    person,
    png,
    refused,
    two_calls,
    weather,
    words,
)
from tests.support.model import Model

pytestmark = pytest.mark.client("llm (Python)")

FUNCTIONS = '''
def get_weather(city: str) -> str:
    """Weather of a city."""
    return "sunny in " + city
'''
MODELS = f"""
- model_id: backline
  model_name: {MODEL}
  api_base: URL
  api_key_name: backline
  supports_tools: true
  supports_schema: true
  vision: true
"""


class Llm:
    """The command, with a directory of its own."""

    def __init__(self, directory: Path, url: str) -> None:
        (directory / "extra-openai-models.yaml").write_text(MODELS.replace("URL", url))
        (directory / "keys.json").write_text('{"backline": "unused"}')
        self._environ = {**os.environ, "LLM_USER_PATH": str(directory)}

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llm", "-m", "backline", *words]
        return subprocess.run(
            command,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    def says(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def llm(tmp_path: Path, url: str) -> Llm:
    return Llm(tmp_path, url)


@pytest.mark.feature("answer")
def test_an_answer_is_whole(llm: Llm, marker: str) -> None:
    assert llm.says("--no-stream", f"{marker} {words()}") == WORDS


@pytest.mark.feature("stream")
def test_a_stream_adds_up(llm: Llm, marker: str) -> None:
    assert llm.says(f"{marker} {words()}") == WORDS


@pytest.mark.feature("usage in a stream")
def test_the_usage_is_told(llm: Llm, marker: str) -> None:
    assert "Token usage" in llm.run("--usage", f"{marker} {words()}").stderr


@pytest.mark.feature("tools")
def test_a_call_is_answered(llm: Llm, model: Model, marker: str) -> None:
    assert llm.says("--no-stream", "--functions", FUNCTIONS, f"{marker} {one_call()}").endswith(FINAL)
    assert weather(CITIES[0]) in model.calls(marker)[-1].everything


@pytest.mark.feature("streamed tools")
def test_two_streamed_calls_are_answered(llm: Llm, model: Model, marker: str) -> None:
    assert llm.says("--functions", FUNCTIONS, f"{marker} {two_calls()}").endswith(FINAL)
    reached = model.calls(marker)[-1].everything
    assert all(weather(city) in reached for city in CITIES)


@pytest.mark.feature("structured output")
def test_an_answer_follows_a_schema(llm: Llm, model: Model, marker: str) -> None:
    schema = json.dumps(Person.model_json_schema())
    assert Person.model_validate_json(llm.says("--schema", schema, f"{marker} {person()}")) == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(llm: Llm, model: Model, tmp_path: Path, marker: str) -> None:
    (tmp_path / "red.png").write_bytes(png())
    assert llm.says("-a", str(tmp_path / "red.png"), f"{marker} {words()}") == WORDS
    assert PNG in model.call(marker).everything


@pytest.mark.feature("errors")
def test_a_failure_of_the_model_is_told(llm: Llm, marker: str) -> None:
    done = llm.run(f"{marker} {refused(429)}")
    assert done.returncode == 1
    assert "429" in done.stderr
