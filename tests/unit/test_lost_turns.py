"""What a lost worker leaves in a run's log can be told to another process, wherever it broke off."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.content import TextPart
from shared.run_events import (
    Restarted,
    RunEvent,
    RunStarted,
    StepKept,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
)
from shared.runs import RunRequest
from worker.claude.transcript import Entry, Message
from worker.recovery import GO_ON, Steps, lost_turn

REQUEST = RunRequest(agent="a", prompt=(TextPart("The question."),))
CALLS = st.lists(st.tuples(st.text("abc ", min_size=1), st.integers(1, 3)), max_size=3)


def entry(number: int, role: str, content: Any) -> Entry:
    parent = f"u{number - 1}" if number else None
    return {
        "type": role,
        "uuid": f"u{number}",
        "parentUuid": parent,
        "message": {"role": role, "content": content},
    }


def log_of(calls: list[tuple[str, int]]) -> list[RunEvent]:
    """A turn of model calls that say something, use some tools, and hear their results; then a last word."""
    events: list[RunEvent] = [RunStarted("w")]
    steps = Steps()
    entries = [entry(0, "user", "The question.")]
    for number, (words, tools) in enumerate(calls):
        events += [ThinkingDelta("hm"), *map(TextDelta, words)]
        uses: list[dict[str, Any]] = [
            {"type": "tool_use", "id": f"t{number}-{n}", "name": "Bash", "input": {}} for n in range(tools)
        ]
        events += [ToolStarted(use["id"], "Bash", "{}") for use in uses]
        entries.append(entry(len(entries), "assistant", [{"type": "text", "text": words}, *uses]))
        new = entries[-2:] if number == 0 else entries[-1:]
        events += [step] if (step := steps.add(new)) is not None else []
        for use in uses:
            result = {"type": "tool_result", "tool_use_id": use["id"], "content": "done"}
            entries.append(entry(len(entries), "user", [result]))
            events.append(ToolFinished(use["id"], is_error=False))
            events += [step] if (step := steps.add(entries[-1:])) is not None else []
    return [*events, *map(TextDelta, "The end.")]


def blocks(messages: list[Message], kind: str) -> list[dict[str, Any]]:
    return [b for m in messages if isinstance(m["content"], list) for b in m["content"] if b["type"] == kind]


@given(CALLS, st.integers(0, 200))
def test_a_log_that_breaks_off_anywhere_can_be_gone_on_with(calls: list[tuple[str, int]], at: int) -> None:
    events = log_of(calls)[:at]
    lost = lost_turn(events)
    shown = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert lost.text == shown
    messages = lost.messages(REQUEST)
    assert messages[0]["role"] == "user"
    assert "The question." in json.dumps(messages[0])
    used = [b["id"] for b in blocks(messages, "tool_use")]
    answered = [b["tool_use_id"] for b in blocks(messages, "tool_result")]
    assert len(set(used)) == len(used)
    assert sorted(used) == sorted(answered)
    begun = [event.id for event in events if isinstance(event, ToolStarted)]
    assert set(begun) <= set(used), "a tool that was begun is told"
    said = "".join(b["text"] for b in blocks(messages, "text") if b["text"] != "The question.")
    assert said.replace(" ", "") == shown.replace(" ", "")


@given(CALLS, st.integers(0, 200), st.text("xyz", min_size=1))
def test_the_conversation_remembers_the_whole_answer(
    calls: list[tuple[str, int]], at: int, rest: str
) -> None:
    lost = lost_turn(log_of(calls)[:at])
    entries = lost.transcript(REQUEST, "head", lost.text + rest)
    assert entries[-1]["type"] == "assistant"
    assert rest in str(entries[-1]["message"])
    parents = [e["parentUuid"] for e in entries]
    assert parents[1:] == [e["uuid"] for e in entries][:-1]
    messages = [e["message"] for e in entries]
    used = [b["id"] for b in blocks(messages, "tool_use")]
    assert sorted(used) == sorted(b["tool_use_id"] for b in blocks(messages, "tool_result"))


def test_what_came_before_a_new_beginning_does_not_count() -> None:
    lost = lost_turn([*log_of([("a", 1)]), Restarted(), TextDelta("b")])
    assert (lost.text, lost.entries) == ("b", ())


def test_what_a_process_was_told_is_no_step_of_its_turn() -> None:
    steps = Steps(after=GO_ON)
    use = [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]
    assert steps.add([entry(0, "assistant", use)]) is None
    assert steps.add([entry(1, "user", [{"type": "text", "text": GO_ON}])]) is None
    assert isinstance(steps.add([entry(2, "assistant", use)]), StepKept)
