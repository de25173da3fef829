"""A run's events as OpenAI's chunks and answers, whatever the text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from api.errors import ApiError
from api.openai.answer import Fold, Subject, envelope_of
from api.openai.chunks import DONE, KEEP_ALIVE, Chunks, ending, error_frame
from shared.run_events import (
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
    Usage,
)
from tests.unit.support import CANCELLED, FAILED

SUBJECT = Subject(run_id="run_0123", agent="a", model="a/opus", created=1_700_000_000, ignored=["seed"])
END = RunCompleted(
    finish="stop",
    usage=Usage(input_tokens=1, cache_read_tokens=2, cache_write_tokens=4, output_tokens=8, cost_usd=0.5),
    session_id="s",
    model="claude-x",
)
NOT_THE_ANSWERS: list[RunEvent] = [
    RunStarted("w"),
    ThinkingDelta("hm"),
    ToolStarted("t", "Bash", "{}"),
    ToolFinished("t", is_error=False),
    UpstreamRetry(1, 529, 0.5),
    FAILED,
    CANCELLED,
]
TEXTS = st.text() | st.sampled_from(
    ["\n\n", "\r\ndata: x\n\n", "\u2028\u2029\x85", '"\\"', "🙂", "\x00", "\ufeff"]
)


def stream(texts: list[str], *, include_usage: bool = False) -> bytes:
    chunks = Chunks(SUBJECT, include_usage=include_usage)
    events: list[RunEvent] = [*map(TextDelta, texts), END]
    return b"".join(map(chunks.encode, events)) + ending(SUBJECT, [END], include_usage=include_usage)


def frames(raw: bytes) -> list[dict[str, Any]]:
    """Frames as bytes say they are: `data: …`, one line each, parted by one empty line."""
    assert raw.endswith(DONE)
    *parts, done, rest = raw.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    for part in parts:
        assert part.startswith(b"data: ")
        assert b"\n" not in part
        assert b"\r" not in part
    return [json.loads(part.removeprefix(b"data: ")) for part in parts]


def as_the_sdk_reads(raw: bytes, size: int) -> list[str]:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    return [event.data for event in SSEDecoder().iter_bytes(pieces())]


@given(st.lists(TEXTS, max_size=6), st.booleans(), st.integers(1, 64))
def test_any_text_survives_in_frames_as_openai_has_them(
    texts: list[str], include_usage: bool, size: int
) -> None:
    raw = stream(texts, include_usage=include_usage)
    read = frames(raw)
    assert as_the_sdk_reads(raw, size) == [*(p.decode()[6:] for p in raw.split(b"\n\n")[:-1])]
    for frame in read:
        chunk = ChatCompletionChunk.model_validate(frame, strict=True)
        assert (chunk.id, chunk.model, chunk.created) == ("chatcmpl-0123", "a/opus", 1_700_000_000)
        assert frame["object"] == "chat.completion.chunk"
        assert ("usage" in frame) is include_usage
    told = read[:-1] if include_usage else read
    assert [len(frame["choices"]) for frame in told] == [1] * len(told)
    choices = [frame["choices"][0] for frame in told]
    for choice in choices:
        assert {"index", "delta", "finish_reason", "logprobs"} == set(choice)
    assert choices[0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [choice["delta"] for choice in choices[1:-1]] == [{"content": text} for text in texts]
    assert choices[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]
    assert told[-1]["backline"]["session_id"] == "s"
    if include_usage:
        assert read[-1]["choices"] == []
        assert read[-1]["usage"]["total_tokens"] == 15
        assert [frame["usage"] for frame in told] == [None] * len(told)


@given(TEXTS, st.sampled_from(["stop", "length", "content_filter", "tool_calls"]))
def test_a_whole_answer_is_openais(text: str, finish: Any) -> None:
    end = msgspec.structs.replace(END, finish=finish)
    fold = Fold(SUBJECT, 1)
    fold.add(0, TextDelta(text))
    fold.add(0, end)
    answer = fold.completion()
    raw = json.loads(msgspec.json.encode(answer))
    read = ChatCompletion.model_validate(raw, strict=True)
    assert read.choices[0].message.content == text
    assert read.choices[0].finish_reason == finish
    assert read.usage is not None
    usage = read.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (7, 8, 15)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert {"role", "content", "refusal"} <= set(raw["choices"][0]["message"])
    assert raw["object"] == "chat.completion"
    assert raw["backline"] == {
        "run_id": "run_0123",
        "agent": "a",
        "session_id": "s",
        "claude_model": "claude-x",
        "cost_usd": 0.5,
        "ignored": ["seed"],
    }


@pytest.mark.parametrize("event", NOT_THE_ANSWERS, ids=lambda event: type(event).__name__)
def test_what_is_not_the_answers_gives_no_frame(event: RunEvent) -> None:
    chunks = Chunks(SUBJECT, include_usage=False)
    assert chunks.encode(event) == b""
    assert frames(chunks.encode(TextDelta("x")) + chunks.encode(event) + chunks.encode(END) + DONE)


def test_an_answer_without_a_word_is_still_an_answer() -> None:
    read = frames(stream([]))
    assert [frame["choices"][0]["finish_reason"] for frame in read] == [None, "stop"]


def test_a_keep_alive_between_frames_changes_nothing() -> None:
    whole = stream(["one", "two"])
    cut = whole.index(b"\n\n") + 2
    raw = whole[:cut] + KEEP_ALIVE + KEEP_ALIVE + whole[cut:]
    assert as_the_sdk_reads(raw, 7) == as_the_sdk_reads(whole, 1000)


@given(st.text(), st.none() | st.text(), st.none() | st.text())
def test_an_error_in_a_stream_is_one_frame(message: str, param: str | None, code: str | None) -> None:
    error = ApiError(500, message, type="server_error", param=param, code=code)
    raw = error_frame(error)
    assert raw.startswith(b"data: ")
    assert raw.endswith(b"\n\n")
    assert raw.count(b"\n") == 2
    assert json.loads(raw[6:]) == json.loads(msgspec.json.encode(envelope_of(error)))
    assert json.loads(raw[6:])["error"] == {
        "message": message,
        "type": "server_error",
        "param": param,
        "code": code,
    }


def test_failures_are_not_chunks() -> None:
    assert isinstance(FAILED, RunFailed)
    assert Chunks(SUBJECT, include_usage=True).encode(FAILED) == b""
