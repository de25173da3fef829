"""The conversation in `messages` reaches the model as it was: turns, instructions, images, tool calls."""

from __future__ import annotations

from typing import Any

import httpx

from scripted_model import call as model_call
from scripted_model import script, text
from tests.support.asking import PATH
from tests.support.media import b64, data_url, png
from tests.support.model import Model, ModelCall, without_reminders

YES = script(text("yes"))


async def send(http: httpx.AsyncClient, model: Model, marker: str, *messages: dict[str, Any]) -> ModelCall:
    answer = await http.post(PATH, json={"model": "agent", "messages": messages})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "yes"
    return model.call(marker)


def called(id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


async def test_history_reaches_the_model_as_alternating_turns(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    call = await send(
        http,
        model,
        marker,
        {"role": "user", "content": "first question"},
        {"role": "assistant", "content": "first answer"},
        {"role": "user", "content": "second question"},
        {"role": "assistant", "content": [{"type": "text", "text": "second answer"}]},
        {"role": "user", "content": f"{marker} {YES}"},
    )
    assert call.said == [
        ("user", ["first question"]),
        ("assistant", ["first answer"]),
        ("user", ["second question"]),
        ("assistant", ["second answer"]),
        ("user", [f"{marker} {YES}"]),
    ]


async def test_instructions_are_appended_to_the_agents_own(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    call = await send(
        http,
        model,
        marker,
        {"role": "system", "content": "SYSTEM-WORD"},
        {"role": "developer", "content": [{"type": "text", "text": "DEVELOPER-WORD"}]},
        {"role": "user", "content": f"{marker} {YES}"},
        {"role": "system", "content": "LATE-WORD"},
    )
    assert "You are Claude Code" in call.system
    assert call.system.index("Claude Code") < call.system.index("SYSTEM-WORD\n\nDEVELOPER-WORD\n\nLATE-WORD")
    assert "CLAUDE-MD-WORD" in call.everything
    assert call.said == [("user", [f"{marker} {YES}"])]


async def test_images_reach_the_model(http: httpx.AsyncClient, model: Model, marker: str) -> None:
    image = {"type": "image_url", "image_url": {"url": data_url(png(), "image/png"), "detail": "low"}}
    call = await send(
        http,
        model,
        marker,
        {"role": "user", "content": [{"type": "text", "text": "before"}, image]},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": [image, {"type": "text", "text": f"{marker} {YES}"}]},
    )
    source = {"type": "base64", "media_type": "image/png", "data": b64(png())}
    (_, first), _, (_, last) = call.turns
    assert [block["type"] for block in first] == ["text", "image"]
    assert first[1]["source"] == source
    assert [block["type"] for block in last] == ["image", "text"]
    assert last[0]["source"] == source


async def test_tool_calls_in_the_history_reach_the_model(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    call = await send(
        http,
        model,
        marker,
        {"role": "user", "content": "weather in two towns?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                called("call_1", "weather", '{"town": "Ulm"}'),
                called("call_2", "weather", '{"town": "Bonn"}'),
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "rain"}]},
        {"role": "assistant", "content": "Sun and rain."},
        {"role": "user", "content": f"{marker} {YES}"},
    )
    assert [role for role, _ in call.turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [(b["id"], b["name"], b["input"]) for b in call.turns[1][1]] == [
        ("call_1", "weather", {"town": "Ulm"}),
        ("call_2", "weather", {"town": "Bonn"}),
    ]
    assert {block["type"] for block in call.turns[2][1]} == {"tool_result"}
    assert [block["tool_use_id"] for block in call.turns[2][1]] == ["call_1", "call_2"]
    assert [_result_text(block) for block in call.turns[2][1]] == ["sun", "rain"]


async def test_a_tools_result_may_be_the_last_message(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    # The model counts the assistant's turns: the history's is the first, so this answer is the second.
    second_call_says_yes = script(model_call(text("no")), model_call(text("yes")))
    call = await send(
        http,
        model,
        marker,
        {"role": "user", "content": f"{marker} {second_call_says_yes}"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [called("call_1", "weather", "{}")]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun"},
    )
    assert [role for role, _ in call.turns] == ["user", "assistant", "user"]
    (_, asked), (_, answered) = call.turns[1:]
    assert [block["type"] for block in asked] == ["text", "tool_use"]
    assert (asked[1]["id"], asked[1]["name"]) == ("call_1", "weather")
    assert [block["type"] for block in answered] == ["tool_result"]
    assert answered[0]["tool_use_id"] == "call_1"
    assert _result_text(answered[0]) == "sun"


async def test_neighbouring_messages_of_one_side_merge_in_order(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    call = await send(
        http,
        model,
        marker,
        {"role": "user", "content": "one"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "three"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "five"},
        {"role": "user", "content": f"{marker} {YES}"},
    )
    assert [(role, "|".join(texts)) for role, texts in call.said] == [
        ("user", "one|two"),
        ("assistant", "three|four"),
        ("user", f"five|{marker} {YES}"),
    ]


async def test_a_conversation_may_begin_with_the_assistant(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    call = await send(
        http,
        model,
        marker,
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": f"{marker} {YES}"},
    )
    assert "How can I help?" in call.everything
    assert call.said[-1] == ("user", [f"{marker} {YES}"])


async def test_a_long_history_reaches_the_model(http: httpx.AsyncClient, model: Model, marker: str) -> None:
    turns: list[dict[str, Any]] = []
    for i in range(40):
        turns += [
            {"role": "user", "content": f"question {i}"},
            {"role": "assistant", "content": f"answer {i}"},
        ]
    call = await send(http, model, marker, *turns, {"role": "user", "content": f"{marker} {YES}"})
    assert [texts for _, texts in call.said[:-1]] == [[turn["content"]] for turn in turns]


def _result_text(block: dict[str, Any]) -> str:
    content = block["content"]
    text = content if isinstance(content, str) else "".join(part["text"] for part in content)
    return without_reminders(text).strip()  # the CLI adds them inside a result that ends the conversation
