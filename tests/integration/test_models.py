"""What a `model` may be."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import script, text
from tests.support.asking import ask, check_envelope, text_of
from tests.support.model import Model


async def test_an_agents_name_is_a_model(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    answer = await ask(sdk, marker, script(text("yes")), model="other")
    assert (text_of(answer), answer.model) == ("yes", "other")
    assert "/agents/other" in model.call(marker).everything


@pytest.mark.parametrize(("name", "family"), [("agent/opus", "opus"), ("agent/haiku", "haiku")])
async def test_an_agent_can_be_asked_to_use_a_claude_model(
    sdk: AsyncOpenAI, model: Model, marker: str, name: str, family: str
) -> None:
    answer = await ask(sdk, marker, script(text("yes")), model=name)
    assert answer.model == name
    assert family in model.call(marker).body["model"]


async def test_a_full_claude_model_id_reaches_the_model(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    await ask(sdk, marker, script(text("yes")), model="agent/claude-sonnet-4-5-20250929")
    assert model.call(marker).body["model"] == "claude-sonnet-4-5-20250929"


async def test_a_bare_claude_model_is_the_default_agents(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    answer = await ask(sdk, marker, script(text("yes")), model="haiku")
    call = model.call(marker)
    assert answer.model == "haiku"
    assert "haiku" in call.body["model"]
    assert "/agents/agent" in call.everything


@pytest.mark.parametrize(
    "name",
    ["unknown", "gpt-4o", "agent/gpt-4o", "unknown/opus", "agent/", "/opus", "", "agent/opus/x", "x" * 5000],
)
async def test_an_unknown_model_is_not_found(sdk: AsyncOpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await ask(sdk, "hello", model=name)
    check_envelope(caught.value.response, 404, "model_not_found", param="model")
    assert caught.value.code == "model_not_found"


async def test_models_are_listed_agents_first(sdk: AsyncOpenAI) -> None:
    listed = [each async for each in sdk.models.list()]
    assert [each.id for each in listed] == ["agent", "other", "haiku", "opus", "sonnet"]
    assert {each.object for each in listed} == {"model"}
    assert listed[0].owned_by == "backline"


@pytest.mark.parametrize("name", ["agent", "other", "agent/opus", "sonnet", "claude-sonnet-4-5"])
async def test_a_model_can_be_retrieved(sdk: AsyncOpenAI, name: str) -> None:
    assert (await sdk.models.retrieve(name)).id == name


@pytest.mark.parametrize("name", ["unknown", "agent/unknown", "unknown/opus"])
async def test_retrieving_an_unknown_model_is_not_found(sdk: AsyncOpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await sdk.models.retrieve(name)
    check_envelope(caught.value.response, 404, "model_not_found", param="model")
