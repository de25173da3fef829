"""A client's functions are tools of the model, whose calls are the client's to make."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from scripted_model import Script, call, say, script, text, think, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH, stream
from tests.support.model import Model, ModelCall, without_reminders
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
STRICT_CITY = {**CITY, "additionalProperties": False}


def function(name: str, parameters: Any = CITY, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters, **fields}}


WEATHER = function("get_weather", description="Tells the weather.")
PARIS = use_tool("get_weather", {"city": "Paris"})
ROME = use_tool("get_weather", {"city": "Rome"})


@pytest.fixture(scope="module")
def live(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, warm=1, max_live=8) as stack:
        yield stack


class Chat:
    """A client with tools; every word it says carries its marker."""

    def __init__(self, stack: Stack, tools: list[dict[str, Any]], **fields: Any) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"
        self.messages: list[dict[str, Any]] = []
        self.body: dict[str, Any] = {}
        self.fields: dict[str, Any] = {"model": "agent", "tools": tools, **fields}

    def say(self, said: str, reply: Script) -> dict[str, Any]:
        self.messages.append({"role": "user", "content": f"{self.marker} {said} {reply}"})
        return self.send()

    def result(self, *results: str) -> dict[str, Any]:
        """Answer the calls of the newest message in their order."""
        calls = self.messages[-1]["tool_calls"]
        for made, content in zip(calls, results, strict=True):
            self.messages.append({"role": "tool", "tool_call_id": made["id"], "content": content})
        return self.send()

    def send(self) -> dict[str, Any]:
        answer = httpx.post(
            self.stack.url + PATH, json={**self.fields, "messages": self.messages}, timeout=50
        )
        assert answer.status_code == 200, answer.text
        self.body = answer.json()
        choice: dict[str, Any] = self.body["choices"][0]
        self.messages.append(choice["message"])
        return choice

    @property
    def calls(self) -> list[ModelCall]:
        return self.stack.model.calls(self.marker)


def made_in(choice: dict[str, Any]) -> list[tuple[str, Any]]:
    calls = choice["message"]["tool_calls"]
    return [(made["function"]["name"], json.loads(made["function"]["arguments"])) for made in calls]


def results_in(seen: ModelCall) -> list[str]:
    """Results of tools less what the CLI adds to them."""
    return [without_reminders(str(b["content"])).strip() for b in blocks_of(seen, "tool_result")]


def blocks_of(seen: ModelCall, kind: str) -> list[dict[str, Any]]:
    return [block for _, blocks in seen.turns for block in blocks if block["type"] == kind]


def test_a_call_is_told_and_its_result_reaches_the_model(live: Stack) -> None:
    chat = Chat(live, [WEATHER])
    choice = chat.say("Weather?", script(call(text("Let me look."), PARIS), call(text("Sunny."))))
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "Let me look.")
    assert made_in(choice) == [("get_weather", {"city": "Paris"})]
    final = chat.result("22 degrees")
    assert (final["finish_reason"], final["message"]["content"]) == ("stop", "Sunny.")
    first, second = chat.calls
    (listed,) = [tool for tool in first.body["tools"] if tool["name"] == "get_weather"]
    assert (listed["description"], listed["input_schema"]) == ("Tells the weather.", CITY)
    assert results_in(second) == ["22 degrees"]


def test_results_go_to_the_process_that_made_the_calls(live: Stack) -> None:
    chat = Chat(live, [WEATHER])
    chat.say("One?", script(call(PARIS), call(text("A."))))
    session = chat.body["backline"]["session_id"]
    chat.result("1")
    chat.say("Two?", script(call(ROME), call(text("B."))))
    chat.result("2")
    assert chat.body["backline"]["session_id"] == session
    assert [block["input"] for block in blocks_of(chat.calls[-1], "tool_use")] == [
        {"city": "Paris"},
        {"city": "Rome"},
    ]


def test_calls_made_together_are_answered_together(live: Stack) -> None:
    chat = Chat(live, [WEATHER])
    choice = chat.say("Both?", script(call(PARIS, ROME), call(text("Warm."))))
    assert made_in(choice) == [("get_weather", {"city": "Paris"}), ("get_weather", {"city": "Rome"})]
    assert chat.result("22", "25")["message"]["content"] == "Warm."
    results = blocks_of(chat.calls[-1], "tool_result")
    ids = [made["id"] for made in choice["message"]["tool_calls"]]
    assert [(block["tool_use_id"], block["content"]) for block in results] == [(ids[0], "22"), (ids[1], "25")]


async def test_arguments_stream_as_the_model_writes_them(live: Stack) -> None:
    long = {"city": "Llanfairpwllgwyngyll" * 4}
    plan = script(call(text("Hm."), use_tool("get_weather", long), ROME))
    async with live.sdk() as client:
        chunks = [
            c async for c in stream(client, plan, tools=[WEATHER], stream_options={"include_usage": True})
        ]
    deltas = [delta for c in chunks for choice in c.choices for delta in choice.delta.tool_calls or ()]
    for index, expected in ((0, long), (1, {"city": "Rome"})):
        own = [delta for delta in deltas if delta.index == index]
        assert [bool(delta.id) for delta in own] == [True] + [False] * (len(own) - 1)
        assert [d.function.name for d in own if d.function] == ["get_weather"] + [None] * (len(own) - 1)
        pieces = [delta.function.arguments or "" for delta in own if delta.function]
        assert json.loads("".join(pieces)) == expected
    assert len([delta for delta in deltas if delta.index == 0]) > 3
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["tool_calls"]
    assert chunks[-1].usage is not None


def test_the_agents_own_tools_run_inside_and_are_not_told(live: Stack) -> None:
    plan = script(
        call(use_tool("Bash", {"command": "echo INNER-WORD"}), PARIS), call(text("Done."), stop_reason=None)
    )
    chat = Chat(live, [WEATHER])
    choice = chat.say("Mixed?", plan)
    assert made_in(choice) == [("get_weather", {"city": "Paris"})]
    assert chat.result("22")["message"]["content"] == "Done."
    contents = results_in(chat.calls[-1])
    assert sorted(map(str, contents)) == ["22", "INNER-WORD"]


def test_a_conversation_goes_on_where_its_process_is_gone(new_stack: NewStack) -> None:
    """With what the agent itself has done, and thought, in the turn that the client interrupted."""
    stack = new_stack(slots=2, warm=0, max_live=8, workers=2, was_killed=True)
    chat = Chat(stack, [WEATHER])
    chat.say("Before?", say("Yes."))
    plan = script(
        call(think("A-THOUGHT"), text("Hm."), use_tool("Bash", {"command": "echo INNER-WORD"})),
        call(PARIS, ROME),
        call(text("Done.")),
    )
    chat.say("Weather?", plan)
    next(w for w in stack.workers if psutil.Process(w.pid).children()).kill()
    assert chat.result("22", "25")["message"]["content"] == "Done."
    last = chat.calls[-1]
    roles = [role for role, _ in last.turns]
    assert roles == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert [b["thinking"] for b in blocks_of(last, "thinking")] == ["A-THOUGHT"]
    assert results_in(last) == ["INNER-WORD", "22", "25"]
    chat.say("And now?", say("Fine."))
    assert results_in(chat.calls[-1]) == ["INNER-WORD", "22", "25"]


def test_a_finished_round_can_be_resumed_too(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8, workers=2, was_killed=True)
    chat = Chat(stack, [WEATHER])
    chat.say("Weather?", script(call(PARIS, ROME), call(text("Warm."))))
    chat.result("22", "25")
    next(w for w in stack.workers if psutil.Process(w.pid).children()).kill()
    chat.fields["tools"] = [function("something_else")]
    assert chat.say("Thanks.", say("Welcome."))["message"]["content"] == "Welcome."
    last = chat.calls[-1]
    assert results_in(last) == ["22", "25"]
    names = [tool["name"] for tool in last.body["tools"]]
    assert "something_else" in names


def test_a_history_from_elsewhere_keeps_its_calls(live: Stack) -> None:
    chat = Chat(live, [WEATHER])
    made = {
        "id": "chatcmpl-tool:1/2",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    }
    chat.messages = [
        {"role": "user", "content": f"{chat.marker} {say('Cold.')}"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": made["id"], "content": "-3"},
    ]
    assert chat.send()["message"]["content"] == "Cold."
    (used,) = blocks_of(chat.calls[-1], "tool_use")
    (result,) = blocks_of(chat.calls[-1], "tool_result")
    assert (used["input"], used["id"]) == ({"city": "Oslo"}, result["tool_use_id"])
    assert results_in(chat.calls[-1]) == ["-3"]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"tool_choice": "required"}, {"type": "tool", "name": "get_weather"}),
        ({"tool_choice": function("get_weather", None)}, {"type": "tool", "name": "get_weather"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({}, None),
    ],
)
def test_the_choice_reaches_the_model(live: Stack, fields: dict[str, Any], expected: Any) -> None:
    chat = Chat(live, [WEATHER], **fields)
    chat.say("Go.", script(call(PARIS)))
    assert chat.calls[0].body.get("tool_choice") == expected
    if expected and expected["type"] == "tool":
        assert chat.calls[0].body["thinking"] == {"type": "disabled"}


def test_one_of_several_must_be_called(live: Stack) -> None:
    chat = Chat(live, [WEATHER, function("other")], tool_choice="required")
    chat.say("Go.", script(call(PARIS)))
    assert chat.calls[0].body["tool_choice"] == {"type": "any"}


def test_a_choice_of_none_keeps_the_agents_tools(live: Stack) -> None:
    chat = Chat(live, [WEATHER], tool_choice="none")
    plan = script(call(PARIS), call(use_tool("Bash", {"command": "echo OWN"})), call(text("Alone.")))
    choice = chat.say("Go.", plan)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Alone.")
    assert "tool_calls" not in choice["message"]
    assert "OWN" in str(blocks_of(chat.calls[-1], "tool_result"))


def test_a_strict_tools_arguments_are_mended_unseen(live: Stack) -> None:
    tool = function("get_weather", STRICT_CITY, strict=True)
    chat = Chat(live, [tool])
    plan = script(call(use_tool("get_weather", {"town": "Paris"}), ROME), call(PARIS), call(text("Sunny.")))
    choice = chat.say("Weather?", plan)
    assert made_in(choice) == [("get_weather", {"city": "Paris"})]
    assert chat.result("22")["message"]["content"] == "Sunny."


def test_a_strict_tool_never_gets_what_does_not_fit(live: Stack) -> None:
    tool = function("get_weather", STRICT_CITY, strict=True)
    plan = script(call(use_tool("get_weather", {"town": "Paris"})))
    asked = {"model": "agent", "tools": [tool], "messages": [{"role": "user", "content": str(plan)}]}
    answer = httpx.post(live.url + PATH, json=asked, timeout=50)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "invalid_output")


def test_a_tool_may_have_the_name_of_one_of_the_agents(live: Stack) -> None:
    chat = Chat(live, [function("Bash")])
    choice = chat.say("Go.", script(call(use_tool("client_Bash", {"city": "X"})), call(text("Ok."))))
    assert made_in(choice) == [("Bash", {"city": "X"})]
    assert chat.result("done")["message"]["content"] == "Ok."


def test_the_agents_own_tools_can_be_switched_off(live: Stack) -> None:
    chat = Chat(live, [WEATHER, function("Bash")], claude_options={"tools": []})
    choice = chat.say("Go.", script(call(use_tool("Bash", {"city": "X"})), call(text("Ok."))))
    assert made_in(choice) == [("Bash", {"city": "X"})]
    assert [tool["name"] for tool in chat.calls[0].body["tools"]] == ["Bash", "get_weather"]
    assert chat.result("done")["message"]["content"] == "Ok."


def test_a_long_description_is_not_cut(live: Stack) -> None:
    words = " ".join(f"word{n}" for n in range(2000))
    chat = Chat(live, [function("get_weather", description=words)])
    chat.say("Go.", say("Ok."))
    seen = chat.calls[0]
    (listed,) = [tool for tool in seen.body["tools"] if tool["name"] == "get_weather"]
    assert words[:4000] == listed["description"]
    assert words[4000:] in seen.system


def test_a_sub_agent_cannot_call_the_client(live: Stack) -> None:
    inner = script(call(PARIS), call(text("Inner.")))
    outer = script(
        call(
            use_tool("Agent", {"description": "d", "prompt": str(inner), "subagent_type": "general-purpose"})
        ),
        call(text("Outer.")),
    )
    chat = Chat(live, [WEATHER])
    choice = chat.say("Go.", outer)
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "Outer.")


def test_a_stored_conversation_takes_results(live: Stack) -> None:
    conversation = httpx.post(f"{live.url}/v1/conversations", json={}, timeout=10).json()["id"]
    chat = Chat(live, [WEATHER], conversation_id=conversation)
    choice = chat.say("Weather?", script(call(PARIS), call(text("Sunny."))))
    made = choice["message"]["tool_calls"][0]
    for wrong in ({"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "t1", "content": "22"}):
        asked = {**chat.fields, "messages": [wrong]}
        assert httpx.post(live.url + PATH, json=asked, timeout=50).status_code == 400
    chat.messages = [{"role": "tool", "tool_call_id": made["id"], "content": "22"}]
    assert chat.send()["message"]["content"] == "Sunny."


def test_the_older_form_is_answered_in_the_older_form(live: Stack) -> None:
    chat = Chat(live, [], functions=[WEATHER["function"]])
    del chat.fields["tools"]
    choice = chat.say("Weather?", script(call(PARIS), call(text("Sunny."))))
    assert choice["finish_reason"] == "function_call"
    assert json.loads(choice["message"]["function_call"]["arguments"]) == {"city": "Paris"}
    chat.messages.append({"role": "function", "name": "get_weather", "content": "22"})
    assert chat.send()["message"]["content"] == "Sunny."
    assert results_in(chat.calls[-1]) == ["22"]


def test_a_custom_tool_takes_any_text(live: Stack) -> None:
    chat = Chat(live, [{"type": "custom", "custom": {"name": "patch", "description": "Applies a patch."}}])
    choice = chat.say("Go.", script(call(use_tool("patch", {"input": "*** any\ntext"})), call(text("Ok."))))
    (made,) = choice["message"]["tool_calls"]
    assert (made["type"], made["custom"]) == ("custom", {"name": "patch", "input": "*** any\ntext"})
    assert chat.result("applied")["message"]["content"] == "Ok."


def test_no_process_is_left_waiting_for_a_client_that_never_returns(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8, session_idle_s=1)
    Chat(stack, [WEATHER]).say("Weather?", script(call(PARIS)))
    wait_for(lambda: not stack.cli_processes(), 20, "the process has ended")
