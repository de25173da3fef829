"""Calls of a client's tools: what is told is deferred, the rest denied, whatever the model says."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.run_events import CallDelta, CallStarted, RunEvent
from shared.runs import ClientTool, LaunchOptions, ToolChoice
from worker.claude.calls import Calls
from worker.claude.client_tools import ClientTools
from worker.claude.json_text import JsonText
from worker.claude.launch import Launch
from worker.claude.live import LiveProcess

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LOOSE = ClientTool("loose", "", CITY)
STRICT = ClientTool("strict", "", CITY, strict=True)
TAKEN = ClientTool("Bash", "", CITY)

Said = tuple[str, dict[str, Any]]
INPUTS = st.sampled_from([{"city": "Paris"}, {"town": "Rome"}, {}])
MESSAGES = st.lists(
    st.lists(st.tuples(st.sampled_from(["loose", "strict", "client_Bash", "Read"]), INPUTS), max_size=4),
    min_size=1,
    max_size=4,
)


def play(calls: Calls, message: list[Said], number: int) -> list[RunEvent]:
    """One message of the model's, its arguments in pieces of three characters."""
    events: list[RunEvent] = []
    calls.start_message()
    for index, (name, value) in enumerate(message):
        events += calls.start(f"t{number}-{index}", name) or []
        text = json.dumps(value) if value else ""
        for start in range(0, len(text), 3):
            events += calls.delta(text[start : start + 3]) or []
        events += calls.stop() or []
    return events + calls.end_message()


@given(MESSAGES, st.sampled_from([(LOOSE,), (LOOSE, TAKEN), (LOOSE, STRICT, TAKEN)]), st.booleans())
def test_what_is_told_is_what_is_left_to_the_client(
    messages: list[list[Said]], tools: tuple[ClientTool, ...], may_call: bool
) -> None:
    listed = ClientTools(tools)
    calls = Calls(listed, ToolChoice(mode="auto" if may_call else "none"))
    names: list[str] = []
    arguments: list[str] = []
    for number, message in enumerate(messages):
        for event in play(calls, message, number):
            match event:
                case CallStarted(index=index, name=name):
                    assert index == len(names)
                    names.append(name)
                    arguments.append("")
                case CallDelta(index=index, arguments=piece):
                    arguments[index] += piece
    assert [(made.name, made.input) for made in calls.made] == list(
        zip(names, map(json.loads, arguments), strict=True)
    )
    told = {made.id for made in calls.made}
    for number, message in enumerate(messages):
        for index, (name, _) in enumerate(message):
            call_id = f"t{number}-{index}"
            is_clients = listed.find(name) is not None
            verdict = calls.verdict(call_id, name, is_clients=is_clients)
            assert verdict is not None
            expected = "own" if not is_clients else "defer" if call_id in told else "deny"
            assert verdict.decision == expected
    for made in calls.made:
        if made.name == "strict":
            assert "city" in made.input


def test_the_cli_waits_for_the_end_of_the_message() -> None:
    calls = Calls(ClientTools((LOOSE,)))
    calls.start_message()
    calls.start("t1", "loose")
    calls.stop()
    assert calls.verdict("t1", "loose", is_clients=True) is None
    calls.end_message()
    verdict = calls.verdict("t1", "loose", is_clients=True)
    assert verdict is not None
    assert verdict.decision == "defer"


def test_a_call_of_no_message_is_denied() -> None:
    calls = Calls(ClientTools((LOOSE,)))
    verdict = calls.verdict("a-sub-agents", "loose", is_clients=True)
    assert verdict is not None
    assert verdict.decision == "deny"


def test_what_the_cli_asks_is_heard_after_what_it_said_before(tmp_path: Path) -> None:
    """Both may come with one read."""
    launch = Launch(("cli",), tmp_path, {}, "m", tmp_path, None, LaunchOptions(), is_mirrored=True)
    live = LiveProcess(launch)
    heard: list[object] = []
    live.on_lines = heard.extend
    live.on_hook = lambda call, _: heard.append(call.tool_use_id)
    asked = {"subtype": "hook_callback", "input": {"tool_use_id": "t1"}}
    request = json.dumps(
        {"type": "control_request", "request_id": "1", "request": asked}, separators=(",", ":")
    )
    live._hear([b"before", request.encode(), b"after"])
    assert heard == [b"before", "t1", b"after"]


async def test_a_turn_is_not_stored_before_its_transcript_has_come(tmp_path: Path) -> None:
    """The CLI writes the transcript on a timer of its own: its last entry may come behind the result."""
    live = LiveProcess(Launch(("cli",), tmp_path, {}, "m", tmp_path, None, LaunchOptions(), is_mirrored=True))

    def mirror(*ids: str) -> None:
        entries = [{"type": "assistant", "uuid": each, "parentUuid": None} for each in ids]
        frame = {"type": "transcript_mirror", "filePath": "/s.jsonl", "entries": entries}
        live._hear([json.dumps(frame, separators=(",", ":")).encode()])

    mirror("first")
    waiting = asyncio.create_task(live.mirrors("last"))
    await asyncio.sleep(0)
    mirror("middle")
    await asyncio.sleep(0.01)
    assert not waiting.done()
    mirror("last")
    async with asyncio.timeout(1):
        await waiting
        await live.mirrors("last")
    assert live.head == "last"
    gone = asyncio.create_task(live.mirrors("never"))
    await asyncio.sleep(0)
    live._closed(None)
    async with asyncio.timeout(1):
        await gone


@given(
    st.lists(st.text(max_size=5)),
    st.recursive(st.none() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)),
    st.text(alphabet="abc \n`"),
    st.integers(1, 9),
)
def test_only_the_object_is_kept(before: list[str], value: Any, after: str, size: int) -> None:
    inner = json.dumps({"value": value})
    said = "".join(before).replace("{", "") + inner + after
    text = JsonText()
    kept = "".join(text.feed(said[start : start + size]) for start in range(0, len(said), size))
    assert kept == inner
    assert text.is_whole
    assert text.value() == {"value": value}


def test_every_tool_has_a_name_of_its_own() -> None:
    tools = [ClientTool(name) for name in ("Bash", "client_Bash", "mcp__x", "client1_Bash", "get")]
    for listed_so in (tools, tools[::-1]):
        listed = ClientTools(listed_so)
        shown = [listed.shown(tool.name) for tool in listed_so]
        assert len(set(shown)) == len(listed_so)
        assert [listed.find(name) for name in shown] == listed_so
        assert listed.shown("get") == "get"
