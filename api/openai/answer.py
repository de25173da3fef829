"""Run events folded into one Chat Completion. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType

from api import backline
from api.backline import BacklineInfo, DebugInfo, ToolActivity, activity_of
from api.errors import ApiError
from api.openai.completion import (
    AnswerMessage,
    CalledCustom,
    CalledFunction,
    ChatCompletion,
    Choice,
    CompletionUsage,
    ErrorBody,
    ErrorEnvelope,
    MadeCall,
    PromptTokensDetails,
)
from api.openai.tools import custom_input
from shared.run_events import (
    CallDelta,
    CallStarted,
    Restarted,
    RunCompleted,
    RunEvent,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
    Usage,
)

REFUSED = "The model declined to answer this."


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
    shows_debug: bool = False
    service_tier: str = "default"
    metadata: dict[str, str] | None = None

    @property
    def completion_id(self) -> str:
        """OpenAI's id for the run."""
        return "chatcmpl-" + self.run_id.removeprefix("run_")


class Call(msgspec.Struct):
    """A call as far as it has come."""

    id: str
    name: str
    pieces: list[str] = []

    @property
    def arguments(self) -> str:
        """JSON text, once it is whole."""
        return "".join(self.pieces) or "{}"


class Answer:
    """Folds the events of one run."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._tools: list[ToolActivity] = []
        self._workers: list[str] = []
        self._retries = 0

    def add(self, event: RunEvent) -> None:
        """Take one event in."""
        match event:
            case RunStarted(worker=worker):
                self._workers.append(worker)
            case UpstreamRetry():
                self._retries += 1
            case Restarted():
                self.calls, self._text, self._thinking, self._tools = [], [], [], []
            case TextDelta(text=text):
                self._text.append(text)
            case ThinkingDelta(text=text):
                self._thinking.append(text)
            case CallStarted(id=id_, name=name):
                self.calls.append(Call(id_, name))
            case CallDelta(index=index, arguments=arguments):
                self.calls[index].pieces.append(arguments)
            case ToolStarted() | ToolFinished():
                self._tools.append(activity_of(event))

    def tools(self, subject: Subject) -> list[ToolActivity] | UnsetType:
        """What the agent did, if the client asked to see it."""
        return self._tools if subject.shows_tools else UNSET

    def debug(self, subject: Subject) -> DebugInfo | UnsetType:
        """How the run went, if the client asked."""
        return DebugInfo(self._workers, self._retries) if subject.shows_debug else UNSET

    def choice(self, subject: Subject, event: RunCompleted, index: int) -> Choice:
        """The whole of it as a choice of the answer."""
        text: str | None = "".join(self._text)
        refusal = None
        if event.finish == "content_filter" and subject.is_structured:
            text, refusal = None, REFUSED
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
            backline=msgspec.structs.replace(
                info_of(subject, events[0]), tools=tools, debug=self._answers[0].debug(subject)
            ),
            service_tier=subject.service_tier,
            metadata=subject.metadata if subject.metadata is not None else UNSET,
        )


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


def _made(subject: Subject, call: Call) -> MadeCall:
    if call.name in subject.custom:
        return MadeCall(id=call.id, type="custom", custom=custom_of(call))
    return MadeCall(id=call.id, function=_legacy(call))


def _legacy(call: Call) -> CalledFunction:
    return CalledFunction(name=call.name, arguments=call.arguments)


def custom_of(call: Call) -> CalledCustom:
    """A call of a custom tool, once it is whole."""
    return CalledCustom(name=call.name, input=custom_input(msgspec.json.decode(call.arguments)))
