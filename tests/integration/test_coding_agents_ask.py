"""What coding agents send, as they send it: tools of their own, their results, a picture."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripted_model import call, script, text, use_tool
from tests.support.media import data_url, png
from tests.support.model import Model
from tests.support.stack import Stack

STREAMED: dict[str, Any] = {"model": "agent", "stream": True, "stream_options": {"include_usage": True}}
FILE = {
    # Cline's and Open WebUI's schemas are those of a library, which says so.
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"path": {"type": "string", "minLength": 1}},
    "required": ["path"],
    "additionalProperties": False,
}
Message = dict[str, Any]


@pytest.mark.parametrize("empty", [None, ""], ids=["cline", "continue, opencode"])
def test_tools_may_have_the_names_of_claude_codes(
    stack: Stack, model: Model, marker: str, empty: str | None
) -> None:
    """Continue's are `Read` and `Bash`. Both are called at once, and both results go back at once."""
    calls = (use_tool("client_Read", {"path": "a"}), use_tool("client_Bash", {"path": "b"}))
    asked: Message = {"role": "user", "content": f"{marker} {script(call(*calls), call(text('Nine.')))}"}
    made, _ = _ask(stack, [asked], ["Read", "Bash"])
    assert [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in made] == [
        ("Read", {"path": "a"}),
        ("Bash", {"path": "b"}),
    ]
    answers = [{"role": "tool", "tool_call_id": each["id"], "content": each["id"]} for each in made]
    history = [asked, {"role": "assistant", "content": empty, "tool_calls": made}, *answers]
    assert _ask(stack, history, ["Read", "Bash"]) == ([], "Nine.")
    results = _kept(model.calls(marker)[-1].turns[-1][1], "tool_result")
    assert [result["tool_use_id"] for result in results] == [each["id"] for each in made]


def test_a_picture_behind_a_result_reaches_the_model(stack: Stack, model: Model, marker: str) -> None:
    """Cline reads a picture with a tool whose result says: see the following message of the user."""
    plan = script(call(use_tool("read_files", {"path": "dot.png"})), call(text("A dot.")))
    asked: Message = {"role": "user", "content": f"{marker} {plan}"}
    made, _ = _ask(stack, [asked], ["read_files"])
    result = [{"type": "text", "text": "Successfully read"}, {"type": "text", "text": "(see below)"}]
    picture = {"type": "image_url", "image_url": {"url": data_url(png(), "image/png")}}
    history: list[Message] = [
        asked,
        {"role": "assistant", "content": None, "tool_calls": made},
        {"role": "tool", "tool_call_id": made[0]["id"], "content": result},
        {"role": "user", "content": [picture]},
    ]
    assert _ask(stack, history, ["read_files"]) == ([], "A dot.")
    role, blocks = model.calls(marker)[-1].turns[-1]
    assert role == "user"
    assert len(_kept(blocks, "tool_result")) == len(_kept(blocks, "image")) == 1


def _ask(stack: Stack, messages: list[Message], tools: list[str]) -> tuple[list[Message], str]:
    """The calls and the text of a streamed answer, put together as these clients do."""
    listed: Any = [{"type": "function", "function": {"name": name, "parameters": FILE}} for name in tools]
    calls: dict[int, Message] = {}
    said = ""
    with stack.sync_sdk() as sdk:
        asked: Any = {**STREAMED, "messages": messages, "tools": listed, "tool_choice": "auto"}
        for chunk in sdk.chat.completions.create(**asked):
            for choice in chunk.choices:
                said += choice.delta.content or ""
                for part in choice.delta.tool_calls or []:
                    _add(calls, part)
    return [calls[index] for index in sorted(calls)], said


def _add(calls: dict[int, Message], part: Any) -> None:
    function = {"name": part.function.name, "arguments": ""}
    made = calls.setdefault(part.index, {"id": part.id, "type": "function", "function": function})
    made["function"]["arguments"] += part.function.arguments or ""


def _kept(blocks: list[Message], kind: str) -> list[Message]:
    return [block for block in blocks if block["type"] == kind]
