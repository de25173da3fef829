"""Run events into Chat Completions: chunks as they come, or folded into one answer. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from api import backline
from api.backline import BacklineInfo, ToolActivity, activity_of
from api.errors import ApiError
from api.one_line import json_text, one_line
from api.openai.completion import (
    AnswerMessage,
    CallChunk,
    CalledCustom,
    CalledFunction,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    ChunkDelta,
    CompletionUsage,
    ErrorBody,
    ErrorEnvelope,
    MadeCall,
    PromptTokensDetails,
)
from api.openai.tools import custom_input
from shared.runs import (
    CallDelta,
    CallStarted,
    RunCompleted,
    RunEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    Usage,
)

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n"
"""One line and no blank one after it: openai-python takes any blank line for the end of an event."""
_REFUSED = "The model declined to answer this."


class Subject(msgspec.Struct, frozen=True):
    """What every chunk or the answer says of itself. `model` is the name the client asked for."""

    run_id: str
    agent: str
    model: str
    created: int
    ignored: list[str]
    conversation: str = ""
    custom: frozenset[str] = frozenset()
    """Names of the client's tools that take any text."""
    is_legacy: bool = False
    """Whether calls are told as `function_call`."""
    is_structured: bool = False
    """Whether the answer is JSON, so that a refusal must not be read as one."""
    shows_thinking: bool = False
    shows_tools: bool = False
    service_tier: str = "default"
    metadata: dict[str, str] | None = None

    @property
    def completion_id(self) -> str:
        """OpenAI's id for the run."""
        return "chatcmpl-" + self.run_id.removeprefix("run_")


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
        match event:
            case TextDelta(text=text):
                return self.start() + self._before + json_text(text) + self._after
            case ThinkingDelta(text=text) if self._subject.shows_thinking:
                return self.start() + self._say(ChunkDelta(reasoning_content=text))
            case CallStarted() | CallDelta():
                return self.start() + self._call(event)
            case ToolStarted() | ToolFinished() if self._subject.shows_tools:
                info = BacklineInfo(self._subject.run_id, self._subject.agent, tool=activity_of(event))
                return self.start() + _frame(
                    msgspec.structs.replace(self._chunk(ChunkDelta()), backline=info)
                )
            case RunCompleted():
                return self.start() + self._end(event)
        return b""

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
            self._calls(CallChunk(index=index, id=call.id, type="custom", custom=_custom(call)))
            for index, call in enumerate(self._answer.calls)
            if call.name in self._subject.custom
        )
        if event.finish == "content_filter" and self._subject.is_structured:
            frames += self._say(ChunkDelta(refusal=_REFUSED))
        info = info_of(self._subject, event)
        last = self._chunk(ChunkDelta(), finish_reason=finish_of(self._subject, event))
        return frames + _frame(msgspec.structs.replace(last, backline=info))

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


class _Call(msgspec.Struct):
    id: str
    name: str
    pieces: list[str] = []

    @property
    def arguments(self) -> str:
        return "".join(self.pieces) or "{}"


class Answer:
    """Folds the events of one run."""

    def __init__(self) -> None:
        self.calls: list[_Call] = []
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._tools: list[ToolActivity] = []

    def add(self, event: RunEvent) -> None:
        """Take one event in."""
        match event:
            case TextDelta(text=text):
                self._text.append(text)
            case ThinkingDelta(text=text):
                self._thinking.append(text)
            case CallStarted(id=id_, name=name):
                self.calls.append(_Call(id_, name))
            case CallDelta(index=index, arguments=arguments):
                self.calls[index].pieces.append(arguments)
            case ToolStarted() | ToolFinished():
                self._tools.append(activity_of(event))

    def tools(self, subject: Subject) -> list[ToolActivity] | UnsetType:
        """What the agent did, if the client asked to see it."""
        return self._tools if subject.shows_tools else UNSET

    def choice(self, subject: Subject, event: RunCompleted, index: int) -> Choice:
        """The whole of it as a choice of the answer."""
        text: str | None = "".join(self._text)
        refusal = None
        if event.finish == "content_filter" and subject.is_structured:
            text, refusal = None, _REFUSED
        message = AnswerMessage(
            content=text or (None if self.calls or refusal else ""),
            refusal=refusal,
            tool_calls=[_made(subject, call) for call in self.calls]
            if self.calls and not subject.is_legacy
            else UNSET,
            function_call=_legacy(self.calls[0]) if self.calls and subject.is_legacy else UNSET,
            reasoning_content="".join(self._thinking) if subject.shows_thinking else UNSET,
        )
        return Choice(message=message, finish_reason=finish_of(subject, event), index=index)


class Fold:
    """Folds the events of `count` runs into one completion."""

    def __init__(self, subject: Subject, count: int) -> None:
        self._subject = subject
        self._answers = [Answer() for _ in range(count)]
        self._ends: dict[int, RunCompleted] = {}

    def add(self, index: int, event: RunEvent) -> None:
        """Take in one event of run number `index`."""
        if isinstance(event, RunCompleted):
            self._ends[index] = event
        else:
            self._answers[index].add(event)

    @property
    def completed(self) -> list[RunCompleted]:
        """How the runs ended, in their order."""
        return [self._ends[index] for index in sorted(self._ends)]

    def completion(self) -> ChatCompletion:
        """The whole answer, once every run has completed."""
        subject, events = self._subject, self.completed
        tools = self._answers[0].tools(subject)
        return ChatCompletion(
            id=subject.completion_id,
            created=subject.created,
            model=subject.model,
            choices=[
                answer.choice(subject, events[index], index) for index, answer in enumerate(self._answers)
            ],
            usage=usage_of(event.usage for event in events),
            backline=msgspec.structs.replace(info_of(subject, events[0]), tools=tools),
            service_tier=subject.service_tier,
            metadata=subject.metadata if subject.metadata is not None else UNSET,
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


def info_of(subject: Subject, event: RunCompleted) -> BacklineInfo:
    """Backline's own words on a completed run."""
    return backline.info_of(
        event,
        run_id=subject.run_id,
        agent=subject.agent,
        conversation=subject.conversation,
        ignored=subject.ignored,
    )


def finish_of(subject: Subject, event: RunCompleted) -> str:
    """OpenAI's word for how the answer ended."""
    if event.finish == "tool_calls" and subject.is_legacy:
        return "function_call"
    if event.finish == "content_filter" and subject.is_structured:
        return "stop"  # OpenAI's own: the refusal says why
    return event.finish


def usage_of(usages: Iterable[Usage]) -> CompletionUsage:
    """Usage in OpenAI's terms, all runs together."""
    all_ = list(usages)
    prompt = sum(usage.prompt_tokens for usage in all_)
    output = sum(usage.output_tokens for usage in all_)
    return CompletionUsage(
        prompt_tokens=prompt,
        completion_tokens=output,
        total_tokens=prompt + output,
        prompt_tokens_details=PromptTokensDetails(
            cached_tokens=sum(usage.cache_read_tokens for usage in all_),
            cache_write_tokens=sum(usage.cache_write_tokens for usage in all_),
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


def _made(subject: Subject, call: _Call) -> MadeCall:
    if call.name in subject.custom:
        return MadeCall(id=call.id, type="custom", custom=_custom(call))
    return MadeCall(id=call.id, function=_legacy(call))


def _legacy(call: _Call) -> CalledFunction:
    return CalledFunction(name=call.name, arguments=call.arguments)


def _custom(call: _Call) -> CalledCustom:
    return CalledCustom(name=call.name, input=custom_input(msgspec.json.decode(call.arguments)))


def _frame(struct: msgspec.Struct) -> bytes:
    return b"data: " + one_line(msgspec.json.encode(struct)) + b"\n\n"
