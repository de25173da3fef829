"""The agent's own tools run on the worker and never show as the client's."""

from __future__ import annotations

from openai import AsyncOpenAI

from scripted_model import Usage, call, script, text, use_tool
from tests.conftest import NewStack
from tests.support.asking import ask, stream, text_of
from tests.support.model import Model


async def test_a_tools_result_reaches_the_model_and_its_text_parts_are_separated(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    asked = script(
        call(text("Before."), use_tool("Bash", {"command": "echo $((6*7))-from-bash"})), call(text("After."))
    )
    answer = await ask(sdk, marker, asked)
    assert text_of(answer) == "Before.\n\nAfter."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    first, second = model.calls(marker)
    assert "42-from-bash" not in first.everything
    assert "42-from-bash" in second.everything


async def test_a_streams_text_parts_are_separated_too(sdk: AsyncOpenAI, marker: str) -> None:
    asked = script(call(text("Before."), use_tool("Bash", {"command": "echo hello"})), call(text("After.")))
    chunks = [chunk async for chunk in stream(sdk, marker, asked)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Before.\n\nAfter."
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]


async def test_an_answer_after_silent_tools_has_no_leading_blank(sdk: AsyncOpenAI, marker: str) -> None:
    asked = script(call(use_tool("Bash", {"command": "echo hello"})), call(text("After.")))
    assert text_of(await ask(sdk, marker, asked)) == "After."


async def test_usage_is_summed_over_the_models_calls(sdk: AsyncOpenAI, marker: str) -> None:
    asked = script(
        call(use_tool("Bash", {"command": "echo hello"}), usage=Usage(input=100, output=5)),
        call(text("After."), usage=Usage(input=20, output=3, cache_read=200)),
    )
    usage = (await ask(sdk, marker, asked)).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (320, 8, 328)


async def test_what_the_agents_settings_do_not_allow_is_denied_at_once(
    sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    asked = script(
        call(use_tool("Bash", {"command": "touch made-by-bash && echo $((6*7))"})), call(text("After."))
    )
    assert text_of(await ask(sdk, marker, asked, model="other")) == "After."
    result = model.calls(marker)[-1].turns[-1][1][0]
    assert result["type"] == "tool_result"
    assert result["is_error"]
    assert "denied" in repr(result) or "permission" in repr(result)


async def test_an_agents_settings_count_inside_a_git_repository_too(
    new_stack: NewStack, model: Model, marker: str
) -> None:
    """The CLI asks whether the repository's root is trusted, not the agent's directory."""
    stack = new_stack()
    (stack.root / ".git").mkdir()
    (stack.root / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (stack.root / ".git/objects").mkdir()
    (stack.root / ".git/refs").mkdir()
    asked = script(call(use_tool("Bash", {"command": "touch made-by-bash"})), call(text("After.")))
    async with stack.sdk() as sdk:
        assert text_of(await ask(sdk, marker, asked)) == "After."
    assert (stack.root / "agents/agent/made-by-bash").exists()
