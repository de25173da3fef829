"""instructor: answers as Pydantic models, by a forced call or by a schema of the answer."""

from __future__ import annotations

from collections.abc import Iterator

import instructor
import pytest
from openai import OpenAI

from tests.compat.scripts import ADA, MODEL, Person, person, person_by_call
from tests.support.asking import user
from tests.support.model import Model

pytestmark = pytest.mark.client("instructor (Python)")


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.feature("tool_choice")
def test_a_forced_call_becomes_a_model(client: OpenAI, model: Model, marker: str) -> None:
    patched = instructor.from_openai(client, mode=instructor.Mode.TOOLS)
    found = patched.chat.completions.create(
        model=MODEL, messages=[user(marker, person_by_call())], response_model=Person, max_retries=0
    )
    assert Person(**found.model_dump()) == ADA  # it is of a subclass of its own
    assert model.calls(marker)[0].body["tool_choice"].items() >= {"type": "tool", "name": "Person"}.items()


@pytest.mark.feature("structured output")
def test_an_answer_with_a_schema_becomes_a_model(client: OpenAI, model: Model, marker: str) -> None:
    patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    found = patched.chat.completions.create(
        model=MODEL, messages=[user(marker, person())], response_model=Person, max_retries=0
    )
    assert Person(**found.model_dump()) == ADA  # it is of a subclass of its own
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("streamed tools")
def test_a_model_fills_while_it_streams(client: OpenAI, marker: str) -> None:
    patched = instructor.from_openai(client, mode=instructor.Mode.TOOLS)
    parts = list(
        patched.chat.completions.create_partial(
            model=MODEL,
            messages=[user(marker, person_by_call("PartialPerson"))],
            response_model=Person,
            max_retries=0,
        )
    )
    assert len(parts) > 1
    assert (parts[-1].name, parts[-1].age) == (ADA.name, ADA.age)
