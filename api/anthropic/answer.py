"""Run events into the Messages API's: a stream of blocks, or one message. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from api.anthropic.errors import envelope_of
from api.anthropic.message import (
    BlockDelta,
    BlockStart,
    BlockStop,
    Content,
    Ended,
    InputPiece,
    MadeToolUse,
    Message,
    MessageDelta,
    MessageStart,
    MessageStop,
    MessageUsage,
    Ping,
    SaidText,
    SaidThinking,
    StopReason,
    TextPiece,
    ThinkingPiece,
    usage_of,
)
from api.backline import BacklineInfo, ToolActivity, activity_of, info_of
from api.errors import ApiError
from api.one_line import json_text, one_line
from shared.run_events import (
    CallDelta,
    CallStarted,
    Restarted,
    RunCompleted,
    RunEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
)

_STOPS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
}


class Subject(msgspec.Struct, frozen=True):
    """What an answer says of itself. `model` is the name the client asked for."""

    run_id: str
    agent: str
    model: str
    request_id: str
    ignored: Sequence[str] = ()
    conversation: str = ""
    shows_thinking: bool = False
    shows_tools: bool = False
    service_tier: str = "standard"

    @property
    def message_id(self) -> str:
        """Anthropic's id for the run."""
        return "msg_" + self.run_id.removeprefix("run_")

    def info(self, event: RunCompleted) -> BacklineInfo:
        """Backline's own words on the completed run."""
        return info_of(
            event,
            run_id=self.run_id,
            agent=self.agent,
            conversation=self.conversation,
            ignored=self.ignored,
        )


class MessageStream:
    """Encodes the events of one run. What is the same in every piece of a block is encoded once a block."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._has_started = False
        self._index = -1
        self._open = ""
        self._before = self._after = b""

    def opening(self) -> bytes:
        """Nothing: the stream opens with its first event."""
        return b""

    def encode(self, _: int, event: RunEvent) -> bytes:
        """Frames for one event; nothing for what is not to be shown."""
        match event:
            case TextDelta(text=text):
                return self._text("text", text)
            case ThinkingDelta(text=text) if self._subject.shows_thinking:
                return self._text("thinking", text)
            case CallStarted(id=id_, name=name):
                return self._begin("tool_use", MadeToolUse(id=id_, name=name, input={}))
            case CallDelta(arguments=arguments):
                return _frame(BlockDelta(self._index, InputPiece(arguments)))
            case ToolStarted() | ToolFinished() if self._subject.shows_tools:
                info = BacklineInfo(self._subject.run_id, self._subject.agent, tool=activity_of(event))
                return self._start() + _frame(Ping(info))
        return b""

    def ending(self, completed: list[RunCompleted]) -> bytes:
        """The last block's end, why it ended and what it took, and the mark."""
        event = completed[0]
        last = MessageDelta(ended(event), usage_of(event.usage), self._subject.info(event))
        return self._start() + self._end() + _frame(last) + _frame(MessageStop())

    def pause(self) -> bytes:
        """A ping, in a message that has begun."""
        return self._start() + _frame(Ping())

    def error(self, error: ApiError) -> bytes:
        """The event on which Anthropic's SDKs raise."""
        return _event("error", envelope_of(error, self._subject.request_id))

    def _text(self, kind: str, text: str) -> bytes:
        if self._open == kind:
            return self._before + json_text(text) + self._after
        begun = self._begin(kind, SaidText("") if kind == "text" else SaidThinking(""))
        piece = TextPiece("\x00") if kind == "text" else ThinkingPiece("\x00")
        self._before, self._after = _frame(BlockDelta(self._index, piece)).split(b'"\\u0000"')
        return begun + self._before + json_text(text) + self._after

    def _begin(self, kind: str, block: Content) -> bytes:
        ended_ = self._start() + self._end()
        self._index += 1
        self._open = kind
        return ended_ + _frame(BlockStart(self._index, block))

    def _end(self) -> bytes:
        was_open, self._open = self._open, ""
        return _frame(BlockStop(self._index)) if was_open else b""

    def _start(self) -> bytes:
        """The frame that opens the message, once; what it takes to answer is known at the end."""
        if self._has_started:
            return b""
        self._has_started = True
        usage = MessageUsage(service_tier=self._subject.service_tier)
        return _frame(MessageStart(_message(self._subject, content=[], stop_reason=None, usage=usage)))


class Answer:
    """Folds the events of one run."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._end: RunCompleted | None = None
        self._blocks: list[_Block] = []
        self._tools: list[ToolActivity] = []

    def add(self, _: int, event: RunEvent) -> None:
        """Take one event in."""
        match event:
            case Restarted():
                self._blocks, self._tools = [], []
            case RunCompleted():
                self._end = event
            case TextDelta(text=text):
                self._say("text", text)
            case ThinkingDelta(text=text) if self._subject.shows_thinking:
                self._say("thinking", text)
            case CallStarted(id=id_, name=name):
                self._blocks.append(_Block("tool_use", [], id_, name))
            case CallDelta(arguments=arguments):
                self._blocks[-1].pieces.append(arguments)
            case ToolStarted() | ToolFinished() if self._subject.shows_tools:
                self._tools.append(activity_of(event))

    def message(self) -> Message:
        """The whole of it, once the run has completed."""
        event = self._end
        if event is None:
            raise ValueError("the run has not completed")
        how = ended(event)
        tools = self._tools if self._subject.shows_tools else UNSET
        return _message(
            self._subject,
            content=[block.content for block in self._blocks],
            stop_reason=how.stop_reason,
            stop_sequence=how.stop_sequence,
            usage=msgspec.structs.replace(usage_of(event.usage), service_tier=self._subject.service_tier),
            backline=msgspec.structs.replace(self._subject.info(event), tools=tools),
        )

    def _say(self, kind: str, text: str) -> None:
        if not self._blocks or self._blocks[-1].kind != kind:
            self._blocks.append(_Block(kind, []))
        self._blocks[-1].pieces.append(text)


class _Block(msgspec.Struct):
    kind: str
    pieces: list[str]
    id: str = ""
    name: str = ""

    @property
    def content(self) -> Content:
        whole = "".join(self.pieces)
        if self.kind == "tool_use":
            return MadeToolUse(id=self.id, name=self.name, input=_input(whole))
        return SaidText(whole) if self.kind == "text" else SaidThinking(whole)


def ended(event: RunCompleted) -> Ended:
    """Anthropic's word for how the answer ended."""
    if event.finish == "stop" and event.stop_sequence:
        return Ended("stop_sequence", event.stop_sequence)
    return Ended(_STOPS[event.finish], None)


def _message(subject: Subject, **fields: Any) -> Message:
    return Message(id=subject.message_id, model=subject.model, **fields)


def _input(arguments: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):  # cut off at the token limit
        return {}


def _frame(struct: msgspec.Struct) -> bytes:
    return _event(str(struct.__struct_config__.tag), struct)


def _event(name: str, struct: msgspec.Struct) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + one_line(msgspec.json.encode(struct)) + b"\n\n"
