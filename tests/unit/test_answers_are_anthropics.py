"""A run's events as the Messages API's, whatever is said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from anthropic._streaming import SSEDecoder
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from api.anthropic.answer import Answer, MessageStream, Subject
from api.anthropic.errors import envelope_of, status_of
from api.errors import ApiError, failed
from shared.run_events import (
    CallDelta,
    CallStarted,
    ErrorKind,
    RunCompleted,
    RunError,
    RunEvent,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    Usage,
)

SUBJECT = Subject(run_id="run_0123", agent="a", model="a/opus", request_id="req_1", ignored=["top_k"])
END = RunCompleted(
    finish="stop",
    usage=Usage(input_tokens=1, cache_read_tokens=2, cache_write_tokens=4, output_tokens=8, cost_usd=0.5),
    session_id="s",
    model="claude-x",
)
TEXTS = st.text(min_size=1) | st.sampled_from(["\n\n", "\r\ndata: x\n\n", "\u2028\u2029\x85", '"\\"', "\x00"])
VALUES = st.dictionaries(st.text(max_size=5), st.integers(-9, 9) | st.text(max_size=5), max_size=3)
OTHERS: list[RunEvent] = [RunStarted("w"), ToolStarted("t", "Bash", "{}"), ToolFinished("t", is_error=False)]
_event: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)


@st.composite
def runs(draw: st.DrawFn) -> list[RunEvent]:
    """What a run may say: texts, thinking, calls whose arguments come in pieces, the agent's own doings."""
    events: list[RunEvent] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["text", "thinking", "call", "other"]), max_size=12)):
        match kind:
            case "text":
                events.append(TextDelta(draw(TEXTS)))
            case "thinking":
                events.append(ThinkingDelta(draw(TEXTS)))
            case "call":
                arguments = json.dumps(draw(VALUES), ensure_ascii=draw(st.booleans()))
                cut = draw(st.integers(1, len(arguments)))
                events.append(CallStarted(calls, f"toolu_{calls}", "f"))
                events += [CallDelta(calls, piece) for piece in (arguments[:cut], arguments[cut:]) if piece]
                calls += 1
            case "other":
                events.append(draw(st.sampled_from(OTHERS)))
    return events


def frames(raw: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Frames as bytes say they are: an event's name and one line of data, parted by one empty line."""
    *parts, rest = raw.split(b"\n\n")
    assert rest == b""
    read = []
    for part in parts:
        name, data = part.split(b"\n")
        assert b"\r" not in part
        read.append((name.decode().removeprefix("event: "), json.loads(data.removeprefix(b"data: "))))
    return read


def streamed(subject: Subject, events: list[RunEvent], end: RunCompleted = END) -> bytes:
    encoder = MessageStream(subject)
    said = b"".join(encoder.encode(0, event) for event in [*events, end])
    return encoder.opening() + said + encoder.ending([end])


def as_the_sdk_reads(raw: bytes, size: int) -> Message:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    message: Any = None
    buffers: dict[int, bytes] = {}
    for sse in SSEDecoder().iter_bytes(pieces()):
        if sse.event != "ping":
            event = _event.validate_python(sse.json())
            message = accumulate_event(event=event, current_snapshot=message, json_bufs=buffers)
    assert isinstance(message, Message)
    return message


def whole(subject: Subject, events: list[RunEvent], end: RunCompleted = END) -> dict[str, Any]:
    answer = Answer(subject)
    for event in (*events, end):
        answer.add(0, event)
    read: dict[str, Any] = json.loads(msgspec.json.encode(answer.message()))
    return read


@given(runs(), st.booleans(), st.booleans(), st.integers(1, 64))
def test_any_run_is_blocks_that_are_opened_and_closed_in_order(
    events: list[RunEvent], shows_thinking: bool, shows_tools: bool, size: int
) -> None:
    subject = msgspec.structs.replace(SUBJECT, shows_thinking=shows_thinking, shows_tools=shows_tools)
    raw = streamed(subject, events)
    read = frames(raw)
    assert [name for name, _ in read] == [data["type"] for _, data in read]
    told = [(name, data) for name, data in read if name != "ping"]
    assert [name for name, _ in told][:1] == ["message_start"]
    assert [name for name, _ in told][-2:] == ["message_delta", "message_stop"]
    open_block, blocks = None, 0
    for name, data in told[1:-2]:
        if name == "content_block_start":
            assert open_block is None
            assert data["index"] == blocks
            open_block, blocks = blocks, blocks + 1
            continue
        assert data["index"] == open_block
        if name == "content_block_stop":
            open_block = None
        else:
            assert name == "content_block_delta"
    assert open_block is None
    message = as_the_sdk_reads(raw, size)
    expected = whole(subject, events)
    content = [block.model_dump(exclude_unset=True) for block in message.content]
    assert [{k: v for k, v in b.items() if v is not None} for b in content] == [
        {k: v for k, v in b.items() if v is not None} for b in expected["content"]
    ]
    assert message.stop_reason == expected["stop_reason"] == "end_turn"
    assert message.usage.output_tokens == 8


@given(runs())
def test_a_whole_answer_is_anthropics(events: list[RunEvent]) -> None:
    raw = whole(SUBJECT, events)
    Message.model_validate(raw)
    assert (raw["id"], raw["type"], raw["role"], raw["model"]) == (
        "msg_0123",
        "message",
        "assistant",
        "a/opus",
    )
    assert raw["usage"] == {
        "input_tokens": 1,
        "cache_creation_input_tokens": 4,
        "cache_read_input_tokens": 2,
        "output_tokens": 8,
        "service_tier": "standard",
    }
    assert raw["backline"]["ignored"] == ["top_k"]
    assert "Bash" not in json.dumps(raw["content"])


@pytest.mark.parametrize(
    ("finish", "stop_sequence", "stop_reason"),
    [
        ("stop", "", "end_turn"),
        ("stop", "END", "stop_sequence"),
        ("length", "", "max_tokens"),
        ("content_filter", "", "refusal"),
        ("tool_calls", "", "tool_use"),
    ],
)
def test_the_reason_of_an_end_is_told_alike(finish: Any, stop_sequence: str, stop_reason: str) -> None:
    end = msgspec.structs.replace(END, finish=finish, stop_sequence=stop_sequence)
    read = as_the_sdk_reads(streamed(SUBJECT, [TextDelta("x")], end), 1000)
    told = whole(SUBJECT, [TextDelta("x")], end)
    assert read.stop_reason == told["stop_reason"] == stop_reason
    assert read.stop_sequence == told["stop_sequence"] == (stop_sequence or None)


def test_a_call_that_was_cut_off_is_still_a_block() -> None:
    events: list[RunEvent] = [CallStarted(0, "toolu_0", "f"), CallDelta(0, '{"x": ')]
    assert whole(SUBJECT, events)["content"][0]["input"] == {}


def test_pings_change_nothing() -> None:
    encoder = MessageStream(SUBJECT)
    raw = encoder.pause() + encoder.encode(0, TextDelta("x")) + encoder.pause() + encoder.ending([END])
    assert [name for name, _ in frames(raw)][:2] == ["message_start", "ping"]
    assert as_the_sdk_reads(raw, 7) == as_the_sdk_reads(streamed(SUBJECT, [TextDelta("x")]), 7)


def test_an_error_in_a_stream_is_an_event() -> None:
    error = failed(RunError(ErrorKind.UPSTREAM_OVERLOADED, "Too much."), "run_0")
    assert frames(MessageStream(SUBJECT).error(error)) == [
        (
            "error",
            {
                "type": "error",
                "error": {"type": "overloaded_error", "message": "Too much."},
                "request_id": "req_1",
            },
        )
    ]


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_failure_has_a_status_and_a_type_of_anthropics(kind: ErrorKind) -> None:
    error = failed(RunError(kind, "x"), "run_0")
    pairs = {
        (400, "invalid_request_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    }
    assert (status_of(error), envelope_of(error, "r").error.type) in pairs


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "authentication_error"), (403, "permission_error"), (405, "invalid_request_error")],
)
def test_refusals_have_anthropics_types(status: int, kind: str) -> None:
    assert envelope_of(ApiError(status, "x"), "r").error.type == kind
