"""The older Completions API works against an agent."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import cut, fail, script, text, tokens
from tests.support.asking import check_envelope
from tests.support.model import Model


async def test_a_prompt_is_answered(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    prompt = f"{marker} {script(text('Yes.'))}"
    answer = await sdk.completions.create(
        model="agent",
        prompt=prompt,
        max_tokens=50,
        temperature=0.5,
        top_p=0.5,
        stop=["END"],
        user="u",
        seed=1,
    )
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", "agent")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.logprobs) == ("Yes.", "stop", None)
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert answer.backline["ignored"] == ["seed"]  # type: ignore[attr-defined]
    made = model.call(marker)
    assert [made.body[name] for name in ("max_tokens", "temperature", "stop_sequences")] == [50, 0.5, ["END"]]
    assert made.said == [("user", [prompt])]


async def test_prompts_and_n_are_choices_in_their_order(sdk: AsyncOpenAI, marker: str) -> None:
    prompts = [f"{marker} {script(text(word))}" for word in ("one", "two")]
    answer = await sdk.completions.create(model="agent", prompt=prompts, n=2, echo=True)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == [
        prompts[0] + "one",
        prompts[0] + "one",
        prompts[1] + "two",
        prompts[1] + "two",
    ]


async def test_a_stream_is_text_completions(sdk: AsyncOpenAI, marker: str) -> None:
    prompts = [f"{marker} {script(tokens(3))}", f"{marker} {script(text('b'))}"]
    stream = await sdk.completions.create(
        model="agent", prompt=prompts, stream=True, echo=True, stream_options={"include_usage": True}
    )
    texts = ["", ""]
    ends = {}
    usages = []
    async for chunk in stream:
        assert chunk.object == "text_completion"
        usages.append(chunk.usage)
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            if choice.finish_reason:
                ends[choice.index] = choice.finish_reason
    assert texts == [prompts[0] + "t0 t1 t2", prompts[1] + "b"]
    assert ends == {0: "stop", 1: "stop"}
    assert usages[-1] is not None
    assert set(usages[:-1]) == {None}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2], [3]]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["x"] * 9}, "n"),
        ({"n": 0}, "n"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"logprobs": 3}, "logprobs"),
        ({"temperature": 3}, "temperature"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(
    sdk: AsyncOpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.completions.create(**{"model": "agent", "prompt": "x"} | fields)
    assert caught.value.param == param


async def test_failures_are_openais(sdk: AsyncOpenAI, marker: str) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await sdk.completions.create(model="agent", prompt=f"{marker} {script(fail(429))}")
    check_envelope(caught.value.response, 429, "rate_limit_exceeded")
    with pytest.raises(openai.APIError):
        async for _ in await sdk.completions.create(
            model="agent", prompt=f"{marker} {script(tokens(5, pace_ms=50), cut())}", stream=True
        ):
            pass
