"""A response's events follow from its run's log alone, in OpenAI's order, with the same numbers for all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from api.backline import BacklineInfo
from api.openai.responses.events import Event
from api.openai.responses.objects import Response
from api.openai.responses.open_items import CallName
from api.openai.responses.story import Story, encoded, frames
from api.openai.responses.telling import Manner, Telling, told_whole
from shared.run_events import (
    CallDelta,
    CallStarted,
    ErrorKind,
    LoggedEvent,
    Restarted,
    RunCancelled,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    RunStarted,
    TerminalEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
    Usage,
)

KEY = "0" * 44
ENDED_AT = 1_700_000_009
NAMES = {
    "weather": CallName("weather"),
    "space__find": CallName("find", "space"),
    "note": CallName("note", None, True),
}
USAGE = Usage(input_tokens=3, cache_read_tokens=4, cache_write_tokens=5, output_tokens=6, cost_usd=0.5)


def base(**fields: Any) -> Response:
    given = {"status": "in_progress", "created_at": 1_700_000_000, **fields}
    return Response(id=f"resp_{KEY}", model="a", backline=BacklineInfo(f"run_{KEY}", "a"), **given)


def completed(finish: Any = "stop") -> RunCompleted:
    return RunCompleted(finish=finish, usage=USAGE, session_id="s", model="m")


WORDS = st.text("ab \n\u2028é{", min_size=1, max_size=4)
QUIET: list[RunEvent] = [RunStarted("w"), UpstreamRetry(1, 529, 0.1), ToolFinished("unknown", False)]
NOISE = st.lists(st.sampled_from(QUIET), max_size=2)
ENDS = st.one_of(
    st.sampled_from(["stop", "length", "content_filter", "tool_calls"]).map(completed),
    st.sampled_from(list(ErrorKind)).map(lambda kind: RunFailed(RunError(kind, "It broke."), USAGE)),
    st.just(RunCancelled("Stopped.", USAGE)),
)
MANNERS = st.builds(
    Manner,
    names=st.just(NAMES),
    is_structured=st.booleans(),
    shows_thinking=st.booleans(),
    shows_tools=st.booleans(),
)
BASES = st.booleans().map(lambda is_background: base(background=is_background))


@st.composite
def logs(draw: st.DrawFn) -> list[RunEvent]:
    """What a worker may say: blocks of text and thinking, tools that overlap them, calls, and one end."""
    log: list[RunEvent] = [RunStarted("w"), *draw(NOISE)]
    running: list[str] = []
    has_text = False
    for number, kind in enumerate(
        draw(st.lists(st.sampled_from(["text", "think", "tool", "end"]), max_size=6))
    ):
        pieces = draw(st.lists(WORDS, min_size=1, max_size=3))
        if kind == "text":
            pieces[0] = ("\n\n" if has_text else "") + pieces[0]
            has_text = True
            log += [TextDelta(piece) for piece in pieces]
        elif kind == "think":
            log += [ThinkingDelta(piece) for piece in pieces]
        elif kind == "tool":
            running.append(f"toolu_{number}")
            log.append(ToolStarted(running[-1], "Bash", "{}"))
        elif running:
            log.append(ToolFinished(running.pop(0), draw(st.booleans())))
        log += draw(NOISE)
    for index, name in enumerate(draw(st.lists(st.sampled_from([*NAMES, "foreign"]), max_size=3))):
        arguments = draw(st.sampled_from(['{"input": "as it is"}', '{"city": "Pa', "{}"]))
        log += [CallStarted(index, f"call_{index}", name), *[CallDelta(index, piece) for piece in arguments]]
    return [*log, draw(ENDS)]


def told_live(response: Response, manner: Manner, log: list[RunEvent]) -> list[Event]:
    telling = Telling(response, manner)
    told = telling.begin()
    for event in log[:-1]:
        told += telling.add(event)
    return told + telling.end(cast("TerminalEvent", log[-1]), ENDED_AT)


@given(BASES, MANNERS, logs())
def test_whoever_tells_it_again_tells_the_same(
    response: Response, manner: Manner, log: list[RunEvent]
) -> None:
    told = told_live(response, manner, log)
    kept = msgspec.json.decode(
        msgspec.json.encode([event for event in log if manner.tells(event)]), type=list[RunEvent]
    )
    final, again = told_whole(response, manner, kept, ENDED_AT)
    assert encoded(again) == encoded(told)
    stored = msgspec.json.decode(msgspec.json.encode(final), type=Response)
    assert encoded(told_whole(stored, manner, kept, ENDED_AT)[1]) == encoded(told)


@given(BASES, MANNERS, logs(), st.data())
async def test_every_suffix_is_the_rest_without_gap_or_repeat(
    response: Response, manner: Manner, log: list[RunEvent], data: st.DataObject
) -> None:
    told = told_live(response, manner, log)
    after = data.draw(st.integers(-1, len(told)))

    async def ended_at() -> int:
        return ENDED_AT

    story = Story(response, manner, ended_at, None)
    body = encoded(story.begin(), after)
    logged = [LoggedEvent(1, n, event) for n, event in enumerate(log, 1)]
    while logged:
        size = data.draw(st.integers(1, len(logged)))
        body += encoded(await story.take(logged[:size]), after)
        logged = logged[size:]
    assert body == encoded(told)[len(encoded(told[: after + 1])) :]
    assert story.has_ended


@given(BASES, MANNERS, logs())
def test_events_are_numbered_from_0_and_items_begin_and_end_once(
    response: Response, manner: Manner, log: list[RunEvent]
) -> None:
    told = [msgspec.to_builtins(event) for event in told_live(response, manner, log)]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    begin = ["created", *(["queued"] if response.background else []), "in_progress"]
    assert [event["type"] for event in told[: len(begin)]] == [f"response.{word}" for word in begin]
    assert told[-1]["type"] in {"response.completed", "response.incomplete", "response.failed"}
    output = told[-1]["response"]["output"]
    added = [event for event in told if event["type"] == "response.output_item.added"]
    done = [event for event in told if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == list(range(len(output)))
    assert sorted(event["output_index"] for event in done) == list(range(len(output)))
    for event in done:
        assert output[event["output_index"]] == event["item"]
        assert added[event["output_index"]]["item"]["id"] == event["item"]["id"]
        assert event["item"]["status"] != "in_progress"
    for event in told:
        if "item_id" in event:
            assert output[event["output_index"]]["id"] == event["item_id"]


@given(BASES, MANNERS, logs())
def test_deltas_add_up_to_what_is_done(response: Response, manner: Manner, log: list[RunEvent]) -> None:
    told = [msgspec.to_builtins(event) for event in told_live(response, manner, log)]
    pieces: dict[int, str] = {}
    for event in told:
        kind = event["type"]
        if kind.endswith(".delta"):
            pieces[event["output_index"]] = pieces.get(event["output_index"], "") + event["delta"]
        elif kind in {"response.output_text.done", "response.reasoning_summary_text.done"}:
            assert pieces.get(event["output_index"], "") == event["text"]
        elif kind == "response.function_call_arguments.done":
            assert pieces.get(event["output_index"], "") == event["arguments"]
        elif kind == "response.custom_tool_call_input.done":
            assert pieces.get(event["output_index"], "") == event["input"]


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # it does not know Backline's own item
@given(BASES, MANNERS, logs())
def test_openais_own_reader_takes_every_stream(
    response: Response, manner: Manner, log: list[RunEvent]
) -> None:
    told = told_live(response, manner, log)
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in told:
        value = msgspec.json.decode(msgspec.json.encode(event))
        state.handle_event(construct_type(type_=cast("Any", ResponseStreamEvent), value=value))
    final = msgspec.to_builtins(told[-1])
    if final["type"] == "response.completed":
        assert [item.id for item in state._completed_response.output] == [
            item["id"] for item in final["response"]["output"]
        ]


def told_of(*log: RunEvent, manner: Manner | None = None) -> Response:
    return told_whole(base(), manner or Manner(names=NAMES), log, ENDED_AT)[0]


def test_an_answer_that_met_the_limit_is_incomplete_with_what_there_is() -> None:
    response = told_of(TextDelta("So far"), completed("length"))
    assert (response.status, msgspec.to_builtins(response.incomplete_details)) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert [item.status for item in response.output] == ["incomplete"]
    assert response.completed_at is None


def test_a_refusal_in_place_of_json_is_a_refusal() -> None:
    response = told_of(completed("content_filter"), manner=Manner(is_structured=True))
    assert response.status == "completed"
    assert msgspec.to_builtins(response.output)[0]["content"][0]["type"] == "refusal"
    plain = told_of(TextDelta("No"), completed("content_filter"))
    assert plain.status == "incomplete"


def test_an_answer_without_a_word_is_an_empty_message() -> None:
    (message,) = msgspec.to_builtins(told_of(completed()).output)
    assert message["content"] == [{"type": "output_text", "text": "", "annotations": [], "logprobs": []}]


def test_calls_go_by_the_names_that_the_client_gave() -> None:
    response = told_of(
        CallStarted(0, "call_a", "space__find"),
        CallDelta(0, "{}"),
        CallStarted(1, "call_b", "note"),
        CallDelta(1, '{"input": "Buy milk"}'),
        completed("tool_calls"),
    )
    find, note = msgspec.to_builtins(response.output)
    assert (find["type"], find["name"], find["namespace"]) == ("function_call", "find", "space")
    assert (note["type"], note["name"], note["input"]) == ("custom_tool_call", "note", "Buy milk")
    assert "namespace" not in note


def test_a_failure_has_one_of_openais_codes_and_the_usage_so_far() -> None:
    codes = {
        kind: told_of(RunFailed(RunError(kind, "It broke."), USAGE)).error.code  # type: ignore[union-attr]
        for kind in ErrorKind
    }
    assert set(codes.values()) == {"server_error", "rate_limit_exceeded", "invalid_prompt"}
    failed = told_of(TextDelta("So"), RunFailed(RunError(ErrorKind.CLI_DIED, "It broke."), USAGE))
    assert (failed.status, failed.usage and failed.usage.input_tokens) == ("failed", 12)


def test_a_cancelled_response_says_so() -> None:
    response = told_of(TextDelta("So"), RunCancelled("Stopped."))
    assert (response.status, response.error) == ("cancelled", None)


def story(keeps: list[list[RunEvent]], *, is_whole: bool) -> Story:
    async def ended_at() -> int:
        return ENDED_AT

    async def keep(_: Response, log: list[RunEvent], __: int) -> None:
        keeps.append(list(log))

    return Story(base(), Manner(), ended_at, keep, is_whole=is_whole)


_ANEW: list[tuple[int, RunEvent]] = [
    (1, TextDelta("Lost.")),
    (2, RunStarted("w")),
    (2, Restarted()),
    (2, TextDelta("Anew.")),
    (2, completed()),
]
ANEW = [LoggedEvent(attempt, n, event) for n, (attempt, event) in enumerate(_ANEW, 1)]


async def test_a_whole_response_can_begin_anew() -> None:
    keeps: list[list[RunEvent]] = []
    telling = story(keeps, is_whole=True)
    telling.begin()
    await telling.take(ANEW)
    (message,) = msgspec.to_builtins(telling.response.output)
    assert message["content"][0]["text"] == "Anew."
    assert keeps == [[TextDelta("Anew."), completed()]]
    assert told_whole(base(), Manner(), keeps[0], ENDED_AT)[0] == telling.response


async def nowhere() -> int:
    return 0


async def test_a_stream_cannot_and_fails() -> None:
    async def batches() -> AsyncGenerator[list[LoggedEvent], None]:
        yield ANEW[:1]
        yield ANEW[1:]

    keeps: list[list[RunEvent]] = []
    body = b"".join([frame async for frame in frames(batches(), story(keeps, is_whole=False), nowhere, 9)])
    assert body.count(b"event: response.failed\n") == 1
    assert b"Anew." not in body
    assert keeps == []


async def test_a_silence_is_one_comment_and_no_blank_line() -> None:
    async def batches() -> AsyncGenerator[list[LoggedEvent], None]:
        yield ANEW[:1]
        yield []
        yield ANEW[4:]

    told = [frame async for frame in frames(batches(), story([], is_whole=False), nowhere, 0)]
    assert told.count(b": keep-alive\n") == 1
    assert all(frame.endswith(b"\n\n") for frame in told if frame != b": keep-alive\n")
