"""Whatever a CLI writes: no line raises, none is lost, and what has no end is given up at a bound."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.run_events import decode_event, encode_event
from tests.support import cli_lines as cli
from worker.claude import process as claude_process
from worker.claude.process import ClaudeProcess
from worker.claude.translate import Translator, is_result

KINDS = [
    *("stream_event", "system", "user", "assistant", "result", "control_request", "control_response"),
    *("transcript_mirror", "rate_limit_event", "keep_alive", "unheard_of"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
FIELDS = st.sampled_from(
    [
        *("subtype", "event", "message", "content", "delta", "usage", "result", "index", "error_status"),
        *("is_error", "session_id", "parent_tool_use_id", "total_cost_usd", "attempt", "request_id"),
        *("response", "request", "text", "type", "content_block", "stop_reason", "retry_delay_ms"),
    ]
)


def _line(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


likely = st.builds(_line, st.sampled_from(KINDS), st.dictionaries(FIELDS, JSON, max_size=5))
nested = st.builds(
    lambda kind, fields: _line("stream_event", {"event": {"type": kind, **fields}}),
    st.sampled_from(["message_start", "content_block_start", "content_block_delta", "message_delta", "x"]),
    st.dictionaries(FIELDS, JSON, max_size=4),
)
cut = st.builds(lambda line, at: line[: at % (len(line) + 1)], likely | nested, st.integers(0, 10_000))
lines = st.binary(max_size=80) | likely | nested | cut | st.just(b'{"type":"result"' + b"[" * 5000)


@given(st.lists(lines, max_size=10))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_no_line_raises_and_every_event_can_be_stored(said: list[bytes]) -> None:
    translator = Translator()
    for line in said:
        is_result(line)
        for event in translator.feed(line):
            encode_event(event)
    if (end := translator.terminal()) is not None:
        encode_event(end)


class _Reader:
    """A process that was never started: what it would hear is given to it."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.complaints: list[str | None] = []
        self.process = ClaudeProcess("", self.lines.extend, self.complaints.append)


@given(
    st.lists(
        st.binary(max_size=60).filter(lambda said: not said.startswith(b'{"type":"control_response"')),
        max_size=12,
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
)
def test_lines_do_not_depend_on_how_they_come_apart(said: list[bytes], sizes: list[int]) -> None:
    whole = b"".join(line + b"\n" for line in said)
    reader, at, turn = _Reader(), 0, 0
    while at < len(whole):
        size = sizes[turn % len(sizes)]
        reader.process.hear(whole[at : at + size])
        at, turn = at + size, turn + 1
    at_once = _Reader()
    at_once.process.hear(whole)
    assert reader.lines == at_once.lines == [line for line in whole.split(b"\n") if line]
    assert reader.complaints == []


def test_a_line_without_an_end_is_given_up_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claude_process, "MAX_LINE_BYTES", 100_000)
    reader = _Reader()
    reader.process.hear(b'{"type":"system"}\n')
    for _ in range(50):
        reader.process.hear(b"x" * 10_000)
    reader.process.hear(b'\n{"type":"system"}\n')
    assert reader.lines == [b'{"type":"system"}']
    assert reader.complaints == ["The CLI wrote a line of over 100000 bytes."]
    assert len(reader.process._rest) <= 110_000


def test_a_million_small_lines_are_all_heard() -> None:
    reader = _Reader()
    for _ in range(1000):
        reader.process.hear(b"{}\n" * 1000)
    assert len(reader.lines) == 1_000_000


VALUES: list[Any] = [None, True, 0, -1, 2**63, 2**70, 1.5, 1e308, "", "x", "\x00", [], [1], {}, {"type": "x"}]


SEED_LINES = [
    *cli.NOISE,
    cli.message_start(),
    *cli.text("Hello", " you"),
    *cli.tool("t1", "Bash", '{"a":', "1}"),
    *cli.message_end("tool_use"),
    cli.tool_result("t1"),
    cli.retry(529),
    *cli.message_end("max_tokens"),
    cli.result(),
    cli.result(is_error=True, api_error_status=429),
    cli.delta("thinking_delta", thinking="x"),
    cli.line("control_response", response={"subtype": "success", "request_id": "1", "response": {}}),
]


def mutated(value: Any, chance: random.Random) -> Any:
    """`value` with some of it replaced, removed or doubled, at any depth."""
    if chance.random() < 0.08:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        return {
            chance.choice([key, key, key, key + "x"]) if chance.random() < 0.1 else key: mutated(each, chance)
            for key, each in value.items()
            if chance.random() > 0.04
        }
    if isinstance(value, list):
        return [mutated(each, chance) for each in value for _ in range(chance.choice([1, 1, 1, 2]))]
    return value


def garbage(chance: random.Random) -> bytes:
    raw = chance.choice(SEED_LINES)
    match chance.randrange(5):
        case 0:
            return chance.randbytes(chance.randrange(80))
        case 1:
            place = chance.randrange(len(raw))
            return raw[:place] + chance.randbytes(chance.randrange(1, 4)) + raw[place:]
        case 2:
            return raw[: chance.randrange(len(raw))]
        case 3:
            return b'{"type":"user","x":' + b"[" * chance.randrange(5_000)
        case _:
            return json.dumps(mutated(json.loads(raw), chance)).encode()


def test_no_garbage_raises_and_whatever_is_said_can_be_logged() -> None:
    chance = random.Random(20_000)  # noqa: S311 - repeatable, not secret
    translator, skipped = Translator(), 0
    for number in range(20_000):
        raw = garbage(chance)
        before = translator.skipped_lines
        events = translator.feed(raw)
        assert translator.skipped_lines - before in {0, 1}
        for event in events:
            assert decode_event(encode_event(event)) == event
        if number % 100 == 99:
            terminal = translator.terminal()
            if terminal is not None:
                assert decode_event(encode_event(terminal)) == terminal
            skipped += translator.skipped_lines
            translator = Translator()
    assert skipped > 5_000
