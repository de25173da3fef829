"""The CLI's lines, as CLI 2.1 writes them, into events and one end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from shared.run_events import (
    ErrorKind,
    RunCompleted,
    RunEvent,
    RunFailed,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
    Usage,
)
from tests.support.cli_lines import (
    INIT,
    MODEL,
    NOISE,
    SESSION,
    block_start,
    delta,
    message_end,
    message_start,
    result,
    retry,
    stop,
    text,
    tool,
    tool_result,
)
from worker.claude.translate import Translator, Wish, is_result


def feed(lines: Iterable[bytes], translator: Translator | None = None) -> tuple[Translator, list[RunEvent]]:
    translator = translator or Translator()
    return translator, [event for each in lines for event in translator.feed(each)]


def end_of(lines: Iterable[bytes]) -> RunCompleted | RunFailed:
    terminal = feed(lines)[0].terminal()
    assert isinstance(terminal, RunCompleted | RunFailed)
    return terminal


def test_a_plain_answer() -> None:
    lines = [*NOISE, message_start(), *text("Hel", "", "lo\u2028\x00 🙂"), *message_end(), result()]
    translator, events = feed(lines)
    assert events == [TextDelta("Hel"), TextDelta("lo\u2028\x00 🙂")]
    assert translator.wish is Wish.END
    assert translator.skipped_lines == 0
    assert not translator.used_tools
    assert translator.terminal() == RunCompleted(
        finish="stop",
        usage=Usage(
            input_tokens=1, cache_read_tokens=3, cache_write_tokens=4, output_tokens=2, cost_usd=0.25
        ),
        session_id=SESSION,
        model=MODEL,
    )


def test_thinking_is_told_apart_and_its_signature_is_not_told() -> None:
    _, events = feed(
        [
            message_start(),
            block_start({"type": "thinking", "thinking": ""}),
            delta("thinking_delta", thinking="Hm"),
            delta("signature_delta", signature="c2ln"),
            stop(),
            *text("So.", index=1),
        ]
    )
    assert events == [ThinkingDelta("Hm"), TextDelta("So.")]


def test_an_agent_uses_a_tool_and_goes_on() -> None:
    translator, events = feed(
        [
            message_start(),
            *text("Look:"),
            *tool("t1", "Bash", '{"comm', 'and":"ls"}'),
            *tool("t2", "Read", index=2),
            *message_end("tool_use"),
            tool_result("t1"),
            tool_result("t2", is_error=True),
            message_start(),
            *text("Two ", "files."),
            *message_end(),
            result(),
        ]
    )
    assert events == [
        TextDelta("Look:"),
        ToolStarted("t1", "Bash", '{"command":"ls"}'),
        ToolStarted("t2", "Read", "{}"),
        ToolFinished("t1", is_error=False),
        ToolFinished("t2", is_error=True),
        TextDelta("\n\nTwo "),
        TextDelta("files."),
    ]
    assert translator.used_tools
    terminal = translator.terminal()
    assert isinstance(terminal, RunCompleted)
    assert terminal.finish == "stop"


def test_what_a_sub_agent_says_is_not_the_answer() -> None:
    _, events = feed(
        [
            message_start(),
            *tool("t1", "Task", "{}", index=0),
            *message_end("tool_use"),
            message_start("t1"),
            *text("inner", parent="t1"),
            *tool("t9", "Bash", parent="t1"),
            *message_end("max_tokens", parent="t1"),
            tool_result("t9", parent="t1"),
            tool_result("t1"),
            message_start(),
            *text("outer"),
            *message_end(),
            result(),
        ]
    )
    assert events == [
        ToolStarted("t1", "Task", "{}"),
        ToolFinished("t1", is_error=False),
        TextDelta("outer"),
    ]


def test_a_repeat_before_any_word_is_told() -> None:
    translator, events = feed(
        [INIT, retry(529), retry(None, 2), message_start(), *text("Well."), *message_end(), result()]
    )
    assert events == [UpstreamRetry(1, 529, 0.5125), UpstreamRetry(2, None, 0.5125), TextDelta("Well.")]
    assert isinstance(translator.terminal(), RunCompleted)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_end_the_turn_at_the_first_try(status: int) -> None:
    translator, events = feed([INIT, retry(status)])
    assert events == []
    assert translator.wish is Wish.INTERRUPT
    terminal = end_of([INIT, retry(status), result(is_error=True, api_error_status=None)])
    assert isinstance(terminal, RunFailed)
    assert terminal.error.kind is ErrorKind.UPSTREAM_AUTH


def test_a_cut_answer_is_not_said_twice() -> None:
    """The CLI repeats a call that broke off; the client has seen its beginning and must not see another."""
    translator, events = feed([message_start(), *text("The answer is 4")[:-1], retry(529)])
    assert translator.wish is Wish.INTERRUPT
    _, more = feed([message_start(), *text("I think it is 5"), *message_end(), result()], translator)
    assert events + more == [TextDelta("The answer is 4")]
    terminal = translator.terminal()
    assert isinstance(terminal, RunFailed)
    assert terminal.error.kind is ErrorKind.UPSTREAM_OVERLOADED


def test_a_cut_answer_without_a_word_from_the_cli_is_not_said_twice() -> None:
    translator, events = feed([message_start(), *text("One")[:-1], message_start(), *text("Two"), result()])
    assert events == [TextDelta("One")]
    assert translator.terminal() is not None
    terminal = translator.terminal()
    assert isinstance(terminal, RunFailed)
    assert terminal.error.kind is ErrorKind.UPSTREAM_ERROR


@pytest.mark.parametrize(
    ("reason", "finish"),
    [("max_tokens", "length"), ("refusal", "content_filter")],
)
def test_where_the_cli_would_go_on_it_is_stopped(reason: str, finish: str) -> None:
    translator, events = feed([message_start(), *text("Once"), *message_end(reason)])
    assert translator.wish is Wish.INTERRUPT
    _, more = feed(
        [
            message_start(),
            *text(" upon"),
            result(subtype="error_during_execution", is_error=True, stop_reason=None, result=None),
        ],
        translator,
    )
    assert events + more == [TextDelta("Once")]
    terminal = translator.terminal()
    assert isinstance(terminal, RunCompleted)
    assert terminal.finish == finish


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("model_context_window_exceeded", "length"),
        ("tool_deferred", "tool_calls"),
    ],
)
def test_other_ends_of_a_message(reason: str, finish: str) -> None:
    lines = [message_start(), *text("x"), *message_end(reason), result(stop_reason=None)]
    translator, _ = feed(lines)
    terminal = translator.terminal()
    assert isinstance(terminal, RunCompleted)
    assert terminal.finish == finish


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"api_error_status": 401, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_AUTH),
        ({"api_error_status": 403, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_AUTH),
        ({"api_error_status": 429, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_RATE_LIMITED),
        ({"api_error_status": 529, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_OVERLOADED),
        ({"api_error_status": 503, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_OVERLOADED),
        ({"api_error_status": 400, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_REFUSED_REQUEST),
        ({"api_error_status": 413, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_REFUSED_REQUEST),
        ({"api_error_status": 404, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_REFUSED_REQUEST),
        ({"api_error_status": 500, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_ERROR),
        ({"api_error_status": None, "terminal_reason": "api_error"}, ErrorKind.UPSTREAM_ERROR),
        ({"api_error_status": 400, "terminal_reason": "prompt_too_long"}, ErrorKind.CONTEXT_TOO_LONG),
        ({"terminal_reason": "prompt_too_long", "result": None}, ErrorKind.CONTEXT_TOO_LONG),
        ({"terminal_reason": None, "result": "Prompt is too long."}, ErrorKind.CONTEXT_TOO_LONG),
        ({"subtype": "error_max_turns", "result": None}, ErrorKind.MAX_TURNS),
        ({"subtype": "error_max_budget_usd", "result": None}, ErrorKind.MAX_BUDGET),
        ({"subtype": "error_during_execution", "errors": ["Oh", "no"], "result": None}, ErrorKind.INTERNAL),
        ({"subtype": "a_new_error", "result": None}, ErrorKind.INTERNAL),
    ],
)
def test_each_failure_has_its_kind_whatever_its_subtype_says(fields: dict[str, Any], kind: ErrorKind) -> None:
    terminal = end_of([INIT, result(**({"is_error": True, "stop_reason": "stop_sequence"} | fields))])
    assert isinstance(terminal, RunFailed)
    assert terminal.error.kind is kind
    assert terminal.error.message.strip()
    assert len(terminal.error.message) < 1000


def test_a_failure_is_bounded_and_carries_the_services_words() -> None:
    said = "prompt is bad " * 1000
    terminal = end_of([result(is_error=True, api_error_status=400, result=said)])
    assert isinstance(terminal, RunFailed)
    assert "prompt is bad" in terminal.error.message
    assert len(terminal.error.message) < 1000


def test_no_result_is_no_end() -> None:
    translator, _ = feed([INIT, message_start(), *text("Half")])
    assert translator.terminal() is None
    assert translator.wish is Wish.GO_ON


@pytest.mark.parametrize(
    "fields", [{"usage": None}, {"is_error": "yes"}, {"errors": [1]}, {"result": {"a": 1}}, {"session_id": 5}]
)
def test_a_result_that_cannot_be_read_is_still_an_end(fields: dict[str, Any]) -> None:
    """Skipped, it would leave the turn to wait for its idle limit."""
    translator, _ = feed([message_start(), *text("x"), *message_end(), result(**fields)])
    assert translator.wish is Wish.END
    assert translator.terminal() is not None


def test_usage_without_a_result_is_summed_from_the_messages() -> None:
    one = [message_start(), *text("a"), *message_end("tool_use", output=7)]
    two = [message_start(input_tokens=5), *text("b"), *message_end(output=9)]
    cut = [message_start(input_tokens=1, output_tokens=2), *text("c")]
    translator, _ = feed([*one, *two, *cut])
    expected = Usage(input_tokens=16, cache_read_tokens=300, cache_write_tokens=60, output_tokens=18)
    assert translator.usage == expected
    assert translator.usage == expected
    assert translator.usage.prompt_tokens == 376


def test_looking_at_the_usage_does_not_change_it() -> None:
    looked, untouched = Translator(), Translator()
    for each in [message_start(), *text("a"), *message_end(output=40), message_start(), *message_end()]:
        looked.feed(each)
        untouched.feed(each)
        assert looked.usage.output_tokens >= 0
    assert looked.usage == untouched.usage
    assert looked.usage.output_tokens == 47


def test_usage_of_a_result_that_counts_nothing_is_what_the_stream_counted() -> None:
    zero = {"input_tokens": 0, "output_tokens": 0}
    lines = [message_start(), *text("a"), *message_end(output=7), result(usage=zero, total_cost_usd=0.5)]
    assert feed(lines)[0].usage == Usage(10, 100, 20, 7, 0.5)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"null",
        b"[]",
        b"17",
        b'"stream_event"',
        b"{}",
        b'{"type":null}',
        b'{"type":17}',
        b'{"type":"stream_event","event":17}',
        b'{"type":"stream_event","event":{}}',
        b'{"type":"result"',
        b'{"type":"\xff\xfe"}',
        b'{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"\xc3"}}}',
        b'{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"\\ud83d"}}}',
        b'{"type":"a","x":' + b"[" * 200_000,
        b'{"type":"a","x":' + b'{"y":' * 100_000 + b"1" + b"}" * 100_001,
        b"\x1b[31mWarning: something\x1b[0m",
        b'{"type":"user","message":{"content":[17]}}',
        b'{"type":"system","subtype":"api_retry","attempt":"x"}',
    ],
)
def test_what_is_not_a_line_is_skipped_and_counted(raw: bytes) -> None:
    translator, events = feed([raw])
    assert events == []
    assert translator.skipped_lines == 1
    assert translator.wish is Wish.GO_ON
    assert not is_result(raw)


def test_only_a_result_is_a_result() -> None:
    assert is_result(result())
    assert not any(is_result(each) for each in NOISE)
