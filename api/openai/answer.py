"""Run events into Chat Completions: chunks as they come, or folded into one answer. Pure, no I/O."""

from __future__ import annotations

import msgspec

from api.errors import ApiError
from api.openai.wire import (
    AnswerMessage,
    BacklineInfo,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    ChunkDelta,
    CompletionUsage,
    ErrorBody,
    ErrorEnvelope,
    PromptTokensDetails,
)
from shared.runs import RunCompleted, RunEvent, TextDelta, Usage

DONE = b"data: [DONE]\n\n"
_LINE_ENDS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
"""Python's `str.splitlines`, which some readers of event streams use, ends lines at these."""
KEEP_ALIVE = b": keep-alive\n"
"""One line and no blank one after it: openai-python takes any blank line for the end of an event."""


class Subject(msgspec.Struct, frozen=True):
    """What every chunk or the answer says of itself. `model` is the name the client asked for."""

    run_id: str
    agent: str
    model: str
    created: int
    ignored: list[str]
    conversation: str = ""

    @property
    def completion_id(self) -> str:
        """OpenAI's id for the run."""
        return "chatcmpl-" + self.run_id.removeprefix("run_")


class Chunks:
    """Encodes one stream. The part of a chunk that never changes is encoded once."""

    def __init__(self, subject: Subject, *, include_usage: bool) -> None:
        self._subject = subject
        self._include_usage = include_usage
        self._has_started = False
        sample = _frame(self._chunk(ChunkDelta(content="\x00")))
        self._before, self._after = sample.split(b'"\\u0000"')

    def encode(self, event: RunEvent) -> bytes:
        """Frames for one event: text or the end; nothing for what is not the answer's."""
        if isinstance(event, TextDelta):
            return self._start() + self._before + _json_text(event.text) + self._after
        if isinstance(event, RunCompleted):
            return self._start() + self._end(event)
        return b""

    def _start(self) -> bytes:
        if self._has_started:
            return b""
        self._has_started = True
        return _frame(self._chunk(ChunkDelta(role="assistant", content="", refusal=None)))

    def _end(self, event: RunCompleted) -> bytes:
        info = info_of(self._subject, event)
        last = self._chunk(ChunkDelta(), finish_reason=event.finish)
        frames = _frame(msgspec.structs.replace(last, backline=info))
        if self._include_usage:
            frames += _frame(
                msgspec.structs.replace(last, choices=[], usage=usage_of(event.usage), backline=info)
            )
        return frames + DONE

    def _chunk(self, delta: ChunkDelta, finish_reason: str | None = None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._subject.completion_id,
            created=self._subject.created,
            model=self._subject.model,
            choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)],
            usage=None if self._include_usage else msgspec.UNSET,
        )


def completion_of(subject: Subject, text: str, event: RunCompleted) -> ChatCompletion:
    """The whole answer at once."""
    return ChatCompletion(
        id=subject.completion_id,
        created=subject.created,
        model=subject.model,
        choices=[Choice(message=AnswerMessage(content=text), finish_reason=event.finish)],
        usage=usage_of(event.usage),
        backline=info_of(subject, event),
    )


def info_of(subject: Subject, event: RunCompleted) -> BacklineInfo:
    """Backline's own words on a completed run."""
    return BacklineInfo(
        run_id=subject.run_id,
        agent=subject.agent,
        session_id=event.session_id,
        conversation_id=subject.conversation or None,
        claude_model=event.model,
        cost_usd=event.usage.cost_usd,
        ignored=subject.ignored,
    )


def usage_of(usage: Usage) -> CompletionUsage:
    """Usage in OpenAI's terms."""
    return CompletionUsage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.prompt_tokens + usage.output_tokens,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=usage.cache_read_tokens, cache_write_tokens=usage.cache_write_tokens
        ),
    )


def envelope_of(error: ApiError) -> ErrorEnvelope:
    """An error in OpenAI's envelope."""
    return ErrorEnvelope(
        error=ErrorBody(message=error.message, type=error.type, param=error.param, code=error.code)
    )


def error_frame(error: ApiError) -> bytes:
    """An error in the middle of a stream: OpenAI's SDKs raise on a frame with an `error`."""
    return _frame(envelope_of(error))


def _json_text(text: str) -> bytes:
    """Text as JSON in one line, whatever a reader takes for the end of one."""
    encoded = msgspec.json.encode(text)
    if not text.isascii():
        for raw, escaped in _LINE_ENDS:
            encoded = encoded.replace(raw, escaped)
    return encoded


def _frame(struct: msgspec.Struct) -> bytes:
    return b"data: " + msgspec.json.encode(struct) + b"\n\n"
