"""Fields of a request do what the table says."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripted_model import call, say, script, text, think, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH, ask, body, check_envelope, stream
from tests.support.stack import Stack
from tests.support.waiting import wait_for


async def test_n_choices_are_n_runs(stack: Stack) -> None:
    async with stack.sdk() as client:
        answer = await ask(client, "three-runs", say("Each."), n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.message.content for choice in answer.choices] == ["Each."] * 3
    assert len(stack.model.calls("three-runs")) == 3
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


async def test_n_choices_stream_side_by_side(stack: Stack) -> None:
    texts = {0: "", 1: ""}
    first_seen: list[int] = []
    finishes: dict[int, str | None] = {}
    async with stack.sdk() as client:
        async for chunk in stream(client, say("One two."), n=2, stream_options={"include_usage": True}):
            for choice in chunk.choices:
                if choice.index not in first_seen:
                    first_seen.append(choice.index)
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    finishes[choice.index] = choice.finish_reason
            last = chunk
    assert texts == {0: "One two.", 1: "One two."}
    assert (first_seen, finishes) == ([0, 1], {0: "stop", 1: "stop"})
    assert last.usage is not None
    assert not last.choices


async def test_a_client_that_leaves_ends_all_its_choices(stack: Stack) -> None:
    plan = script(call(text("begun "), text("x ", pace_ms=60_000)))
    asked = body(plan, stream=True, n=2)
    async with stack.http() as http, http.stream("POST", PATH, json=asked) as answer:
        async for line in answer.aiter_lines():
            if "begun" in line:
                break
    wait_for(lambda: not stack.cli_processes(), 20, "no run is left")


PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHOWN = script(call(think("Deep."), text("So."), use_tool("Bash", {"command": "true"})), call(text("Done.")))


async def test_what_the_agent_does_is_shown_to_who_asks(stack: Stack) -> None:
    show = {"show": ["thinking", "tools"]}
    async with stack.http() as http:
        answer = (await http.post(PATH, json=body(SHOWN, backline=show))).json()
    assert answer["choices"][0]["message"]["reasoning_content"] == "Deep."
    statuses = [(tool["status"], tool.get("name")) for tool in answer["backline"]["tools"]]
    assert statuses == [("started", "Bash"), ("finished", None)]
    async with stack.sdk() as client:
        chunks = [chunk async for chunk in stream(client, SHOWN, extra_body={"backline": show})]
    deltas = [choice.delta.model_dump() for chunk in chunks for choice in chunk.choices]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Deep."
    tools = [
        chunk.model_dump()["backline"]["tool"]
        for chunk in chunks
        if "tool" in (chunk.model_dump().get("backline") or {})
    ]
    assert [tool["status"] for tool in tools] == ["started", "finished"]


async def test_an_operator_may_show_what_one_agent_does(new_stack: NewStack) -> None:
    stack = new_stack(show="agent=thinking", slots=2, warm=0)
    asks: list[dict[str, Any]] = [
        body(SHOWN),
        body(SHOWN) | {"model": "other"},
        body(SHOWN, backline={"show": []}),
    ]
    async with stack.http() as http:
        answers = [(await http.post(PATH, json=asked)).text for asked in asks]
    assert ["Deep." in answer for answer in answers] == [True, False, False]


async def test_what_the_agent_does_is_its_own_affair_otherwise(stack: Stack) -> None:
    async with stack.http() as http:
        answer = await http.post(PATH, json=body(SHOWN, stream=True))
    assert "Deep." not in answer.text
    assert "Bash" not in answer.text


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"claude_options": {"effort": "max"}}, {"output_config": {"effort": "max"}}),
        ({"claude_options": {"model": "claude-sonnet-5"}}, {"model": "claude-sonnet-5"}),
    ],
)
async def test_a_field_reaches_the_model(stack: Stack, fields: dict[str, Any], sent: dict[str, Any]) -> None:
    marker = f"field-{fields}"
    async with stack.http() as http:
        answer = await http.post(PATH, json=body(marker, say("Ok."), **fields))
    assert answer.status_code == 200, answer.text
    seen = stack.model.call(marker).body
    assert {name: seen[name] for name in sent} == sent


async def test_tools_can_be_taken_from_the_agent(stack: Stack) -> None:
    options = {"tools": ["Bash", "Read"], "disallowed_tools": ["Read"]}
    async with stack.http() as http:
        await http.post(PATH, json=body("few-tools", say("Ok."), claude_options=options))
    assert [tool["name"] for tool in stack.model.call("few-tools").body["tools"]] == ["Bash"]


async def test_a_turn_can_be_bounded(stack: Stack) -> None:
    plan = script(call(use_tool("Bash", {"command": "true"})), call(text("Done.")))
    async with stack.http() as http:
        answer = await http.post(PATH, json=body(plan, claude_options={"max_turns": 1}))
    assert answer.json()["error"]["code"] == "max_turns"


async def test_a_model_that_never_ends_is_bounded_by_the_operator(new_stack: NewStack, marker: str) -> None:
    """A request may choose less, and no more; the bound is a turn's, not its process's."""
    stack = new_stack(max_turns=3, max_live=4, slots=2)
    lost = script(*(call(use_tool("NoSuchTool", {"n": number})) for number in range(9)))
    short = script(call(use_tool("Bash", {"command": "true"})), call(text("Done.")))
    async with stack.http() as http:
        for options in ({}, {"max_turns": 1000}):
            answer = await http.post(PATH, json=body(marker, lost, claude_options=options))
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "max_turns")
        assert len(stack.model.calls(marker)) == 6
        made = (await http.post("/v1/conversations", json={})).json()["id"]
        for _ in range(3):
            answer = await http.post(PATH, json=body(short, conversation_id=made))
            assert answer.status_code == 200, answer.text


async def test_a_budget_that_is_spent_is_told_as_such(stack: Stack) -> None:
    plan = script(call(use_tool("Bash", {"command": "true"})), call(text("Done.")))
    async with stack.http() as http:
        answer = await http.post(PATH, json=body(plan, claude_options={"max_budget_usd": 0.000001}))
    check_envelope(answer, 400, "max_budget_usd")
    assert answer.headers["x-should-retry"] == "false"


async def test_a_sub_agent_of_the_request_is_there(stack: Stack, marker: str) -> None:
    helper = {"description": f"helps-{marker}", "prompt": "Help."}
    async with stack.http() as http:
        await http.post(PATH, json=body(marker, say("Ok."), claude_options={"agents": {"helper": helper}}))
    assert f"helps-{marker}" in stack.model.call(marker).everything


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"permission_mode": "bypassPermissions"}, "permission_mode"),
        ({"permission_mode": "acceptEdits"}, "permission_mode"),
        ({"auto_allow_permissions": True}, "auto_allow_permissions"),
        ({"mcp_config": {"mcpServers": {}}}, "mcp_config"),
        ({"working_dir": "/etc"}, "working_dir"),
        ({"add_dirs": ["/"]}, "add_dirs"),
    ],
)
async def test_nobody_widens_what_the_agent_may_do(stack: Stack, options: dict[str, Any], param: str) -> None:
    async with stack.http() as http:
        answer = await http.post(PATH, json=body("x", claude_options=options))
    assert answer.status_code == 403
    assert answer.json()["error"]["param"] == f"claude_options.{param}"


def test_an_operator_may_let_clients_widen_it(new_stack: NewStack) -> None:
    stack = new_stack(client_may="permissions,mcp_config", client_roots="/usr/share", slots=2, warm=0)
    options = {
        "permission_mode": "acceptEdits",
        "working_dir": "/usr/share/doc/..",
        "mcp_config": {"mcpServers": {}},
    }
    asked = body("widened", say("Ok."), claude_options=options)
    assert httpx.post(stack.url + PATH, json=asked, timeout=50).status_code == 200
    assert "/usr/share" in stack.model.call("widened").everything
    for outside in ("/usr", "/usr/share/../lib", "usr/share"):
        asked = body("outside", claude_options={"working_dir": outside})
        assert httpx.post(stack.url + PATH, json=asked, timeout=50).status_code == 403


async def test_files_and_images_are_given_to_the_model(new_stack: NewStack, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("A-NOTE")
    (tmp_path / "dot.png").write_bytes(PNG)
    stack = new_stack(media_roots=str(tmp_path), slots=2, warm=0)
    options = {"files": [f"{tmp_path}/notes.txt"], "images": [f"file://{tmp_path}/dot.png"]}
    async with stack.http() as http:
        answer = await http.post(PATH, json=body("with-files", say("Ok."), claude_options=options))
        refused = await http.post(PATH, json=body("x", claude_options={"files": ["/etc/passwd"]}))
    assert answer.status_code == 200, answer.text
    blocks = [b for _, turn in stack.model.call("with-files").turns for b in turn]
    assert [b["type"] for b in blocks] == ["document", "image", "text"]
    assert "A-NOTE" in str(blocks[0])
    assert refused.json()["error"]["param"] == "claude_options.files[0]"


async def test_an_answer_may_be_the_clis_own_output(stack: Stack) -> None:
    options = {"output_format": "json"}
    async with stack.http() as http:
        answer = (await http.post(PATH, json=body(say("Plain."), claude_options=options))).json()
        lines = (
            await http.post(PATH, json=body(SHOWN, claude_options={"output_format": "stream-json"}))
        ).json()
    result = json.loads(answer["choices"][0]["message"]["content"])
    assert (result["type"], result["result"]) == ("result", "Plain.")
    assert result["session_id"] == answer["backline"]["session_id"]
    kinds = [json.loads(line)["type"] for line in lines["choices"][0]["message"]["content"].splitlines()]
    assert kinds == ["thinking", "text", "tool_use", "tool_result", "text", "result"]


@pytest.mark.parametrize("is_stream", [False, True])
async def test_how_a_run_went_is_told_on_request(stack: Stack, *, is_stream: bool) -> None:
    asked = body(say("Ok."), claude_options={"debug": True}, stream=is_stream)
    async with stack.http() as http:
        answer = await http.post(PATH, json=asked)
    last = answer.text.split("data: ")[-2].splitlines()[0] if is_stream else answer.text
    debug = json.loads(last)["backline"]["debug"]
    assert len(debug["workers"]) == 1
    assert debug["retries"] == 0
