"""Run events into the chunks of a streamed Chat Completion, as they come. Pure, no I/O."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from api.backline import BacklineInfo, ToolActivity, activity_of
from api.errors import ApiError
from api.one_line import json_text, one_line
from api.openai.answer import REFUSED, Answer, Subject, custom_of, envelope_of, finish_of, info_of, usage_of
from api.openai.completion import CallChunk, CalledFunction, ChatCompletionChunk, ChunkChoice, ChunkDelta
from shared.run_events import (
    CallDelta,
    CallStarted,
    RunCompleted,
    RunEvent,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n"
"""One line and no blank one after it: openai-python takes any blank line for the end of an event."""


class Chunks:
    """Encodes one choice of a stream. The part of a chunk that never changes is encoded once."""

    def __init__(self, subject: Subject, *, include_usage: bool, index: int = 0) -> None:
        self._subject = subject
        self._include_usage = include_usage
        self._index = index
        self._has_started = False
        self._answer = Answer()
        sample = _frame(self._chunk(ChunkDelta(content="\x00")))
        self._before, self._after = sample.split(b'"\\u0000"')

    def encode(self, event: RunEvent) -> bytes:
        """Frames for one event; nothing for what is not to be shown."""
        frames = b""
        match event:
            case TextDelta(text=text):
                return self.start() + self._before + json_text(text) + self._after
            case ThinkingDelta(text=text) if self._subject.shows_thinking:
                frames = self._say(ChunkDelta(reasoning_content=text))
            case CallStarted() | CallDelta():
                frames = self._call(event)
            case ToolStarted() | ToolFinished() if self._subject.shows_tools:
                frames = self._tell(tool=activity_of(event))
            case RunStarted() if self._has_started:
                self._answer.add(event)
                frames = self._tell(resumed=True)
            case RunStarted() | UpstreamRetry():
                self._answer.add(event)
                return b""
            case RunCompleted():
                frames = self._end(event)
            case _:
                return b""
        return self.start() + frames

    def start(self) -> bytes:
        """The frame that opens the choice, once."""
        if self._has_started:
            return b""
        self._has_started = True
        return self._say(ChunkDelta(role="assistant", content="", refusal=None))

    def _call(self, event: CallStarted | CallDelta) -> bytes:
        """A function's call as it comes; the text of a custom tool when it is whole."""
        self._answer.add(event)
        call = self._answer.calls[event.index]
        if call.name in self._subject.custom:
            return b""
        if isinstance(event, CallStarted):
            function = CalledFunction(name=event.name, arguments="")
            first = CallChunk(index=event.index, id=event.id, type="function", function=function)
            return self._function_call(function) if self._subject.is_legacy else self._calls(first)
        function = CalledFunction(arguments=event.arguments)
        if self._subject.is_legacy:
            return self._function_call(function)
        return self._calls(CallChunk(index=event.index, function=function))

    def _end(self, event: RunCompleted) -> bytes:
        frames = b"".join(
            self._calls(CallChunk(index=index, id=call.id, type="custom", custom=custom_of(call)))
            for index, call in enumerate(self._answer.calls)
            if call.name in self._subject.custom
        )
        if event.finish == "content_filter" and self._subject.is_structured:
            frames += self._say(ChunkDelta(refusal=REFUSED))
        info = msgspec.structs.replace(info_of(self._subject, event), debug=self._answer.debug(self._subject))
        last = self._chunk(ChunkDelta(), finish_reason=finish_of(self._subject, event))
        return frames + _frame(msgspec.structs.replace(last, backline=info))

    def _tell(self, *, tool: ToolActivity | UnsetType = UNSET, resumed: bool | UnsetType = UNSET) -> bytes:
        """A chunk that adds nothing to the answer, with words of ours."""
        info = BacklineInfo(self._subject.run_id, self._subject.agent, tool=tool, resumed=resumed)
        return _frame(msgspec.structs.replace(self._chunk(ChunkDelta()), backline=info))

    def _say(self, delta: ChunkDelta) -> bytes:
        return _frame(self._chunk(delta))

    def _calls(self, call: CallChunk) -> bytes:
        return self._say(ChunkDelta(tool_calls=[call]))

    def _function_call(self, call: CalledFunction) -> bytes:
        return self._say(ChunkDelta(function_call=call))

    def _chunk(self, delta: ChunkDelta, finish_reason: str | None = None) -> ChatCompletionChunk:
        return ChatCompletionChunk(
            id=self._subject.completion_id,
            created=self._subject.created,
            model=self._subject.model,
            choices=[ChunkChoice(delta=delta, finish_reason=finish_reason, index=self._index)],
            usage=None if self._include_usage else UNSET,
            service_tier=self._subject.service_tier,
        )


def ending(subject: Subject, events: list[RunCompleted], *, include_usage: bool) -> bytes:
    """The end of a stream once every choice has ended: the usage of all, if asked for, and the mark."""
    if not include_usage:
        return DONE
    last = ChatCompletionChunk(
        id=subject.completion_id,
        created=subject.created,
        model=subject.model,
        choices=[],
        usage=usage_of(event.usage for event in events),
        backline=info_of(subject, events[0]),
        service_tier=subject.service_tier,
    )
    return _frame(last) + DONE


def error_frame(error: ApiError) -> bytes:
    """An error in the middle of a stream: OpenAI's SDKs raise on a frame with an `error`."""
    return _frame(envelope_of(error))


def _frame(struct: msgspec.Struct) -> bytes:
    return b"data: " + one_line(msgspec.json.encode(struct)) + b"\n\n"
