"""A run's events into a response's: a pure state machine, so that whoever tells them again tells the same.

Sequence numbers, ids and places follow from the request and the log alone. What is not told has no number,
so a log without it gives the same stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from api.backline import answered_by
from api.openai.answer import REFUSED
from api.openai.responses import events
from api.openai.responses.events import Event
from api.openai.responses.objects import (
    AgentToolOutput,
    ErrorCode,
    IncompleteDetails,
    InputDetails,
    ItemStatus,
    OutputDetails,
    OutputItem,
    Response,
    ResponseError,
    ResponseUsage,
    Status,
)
from api.openai.responses.open_items import (
    CallName,
    OpenCall,
    OpenCustomCall,
    OpenItem,
    OpenMessage,
    OpenReasoning,
    OpenRefusal,
)
from shared.run_events import (
    CallDelta,
    CallStarted,
    ErrorKind,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    TerminalEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    Usage,
)

_CODES: dict[ErrorKind, ErrorCode] = {
    ErrorKind.UPSTREAM_RATE_LIMITED: "rate_limit_exceeded",
    ErrorKind.UPSTREAM_REFUSED_REQUEST: "invalid_prompt",
    ErrorKind.CONTEXT_TOO_LONG: "invalid_prompt",
}
"""The list of codes is OpenAI's, and closed; every other failure is the server's."""
_SEPARATOR = "\n\n"
"""What parts a text after a tool from the one before it; of a new item it would be the beginning."""


class Manner(msgspec.Struct, frozen=True):
    """How a run is told. `names` has the client's tools by the names that the model knows."""

    names: dict[str, CallName] = {}
    is_structured: bool = False
    shows_thinking: bool = False
    shows_tools: bool = False

    def tells(self, event: RunEvent) -> bool:
        """Whether the event shows in the response."""
        match event:
            case ThinkingDelta():
                return self.shows_thinking
            case ToolStarted() | ToolFinished():
                return self.shows_tools
        return isinstance(event, TextDelta | CallStarted | CallDelta | TerminalEvent)


class Telling:
    """Tells one response: `begin`, then `add` every event of the run, then `end`.

    `response` is what `GET` would show.
    """

    def __init__(self, response: Response, manner: Manner) -> None:
        self.response = response.begun()
        self.count = 0
        self._manner = manner
        self._is_begun = False
        self._has_answered = False
        self._output: list[OutputItem] = []
        self._open: OpenItem | None = None
        self._open_at = 0
        self._tools: dict[str, int] = {}

    def begin(self) -> list[Event]:
        """The events before the run's first."""
        told = [self._say(events.Created, response=self.response)]
        if self.response.background:
            told.append(self._say(events.Queued, response=self.response))
        return told

    def add(self, event: RunEvent) -> list[Event]:
        """The events for one of the run's, which is not its last."""
        told = self._progress()
        return told + self._told(event) if self._manner.tells(event) else told

    def end(self, event: TerminalEvent, ended_at: int) -> list[Event]:
        """The events for the run's last; `ended_at` is when that was, in seconds since the epoch."""
        told = self._progress()
        status = _status_of(event, is_structured=self._manner.is_structured)
        item_status: ItemStatus = "completed" if status == "completed" else "incomplete"
        told += self._close(item_status)
        for tool_id in list(self._tools):
            told += self._tool_ends(tool_id, "incomplete")
        if isinstance(event, RunCompleted):
            told += self._rest(event, item_status)
        self.response = self._ended(event, status, ended_at)
        kinds = {"completed": events.Completed, "incomplete": events.Incomplete}
        return [*told, self._say(kinds.get(status, events.Failed), response=self.response)]

    def _progress(self) -> list[Event]:
        if self._is_begun:
            return []
        self._is_begun = True
        self.response = msgspec.structs.replace(self.response, status="in_progress")
        return [self._say(events.InProgress, response=self.response)]

    def _told(self, event: RunEvent) -> list[Event]:
        told: list[Event] = []
        match event:
            case TextDelta(text=text):
                told = self._text(text)
            case ThinkingDelta(text=text):
                told = self._thinking(text)
            case CallStarted(id=call_id, name=name):
                told = self._call(call_id, self._manner.names.get(name) or CallName(name))
            case CallDelta(arguments=arguments) if isinstance(self._open, OpenCall):
                told = self._open.piece(arguments)
            case ToolStarted():
                told = self._tool_starts(event)
            case ToolFinished(id=tool_id, is_error=is_error):
                told = self._tool_ends(tool_id, "completed", is_error=is_error)
        return told

    def _text(self, text: str) -> list[Event]:
        if isinstance(self._open, OpenMessage):
            return self._open.piece(text)
        text = text.removeprefix(_SEPARATOR) if self._has_answered else text
        return self._start("msg", lambda *at: OpenMessage(self._say, *at), text) if text else []

    def _thinking(self, text: str) -> list[Event]:
        if isinstance(self._open, OpenReasoning):
            return self._open.piece(text)
        return self._start("rs", lambda *at: OpenReasoning(self._say, *at), text) if text else []

    def _call(self, call_id: str, name: CallName) -> list[Event]:
        prefix, kind = ("ctc", OpenCustomCall) if name.is_custom else ("fc", OpenCall)
        return self._start(prefix, lambda item_id, index: kind(self._say, item_id, index, call_id, name))

    def _tool_starts(self, event: ToolStarted) -> list[Event]:
        told = self._close("completed") + self._tool_ends(event.id, "incomplete")
        index = len(self._output)
        item = AgentToolOutput(self._item_id("btc"), "in_progress", event.name, event.input)
        self._output.append(item)
        self._tools[event.id] = index
        return [*told, self._say(events.ItemAdded, output_index=index, item=item)]

    def _tool_ends(self, tool_id: str, status: ItemStatus, *, is_error: bool = False) -> list[Event]:
        index = self._tools.pop(tool_id, None)
        if index is None:
            return []
        item = msgspec.structs.replace(self._output[index], status=status, is_error=is_error)
        self._output[index] = item
        return [self._say(events.ItemDone, output_index=index, item=item)]

    def _rest(self, event: RunCompleted, status: ItemStatus) -> list[Event]:
        """What an answer always has: a refusal in place of JSON, or some message or call."""
        if event.finish == "content_filter" and self._manner.is_structured:
            told = self._start("msg", lambda *at: OpenRefusal(self._say, *at), REFUSED)
        elif not self._has_answered:
            told = self._start("msg", lambda *at: OpenMessage(self._say, *at))
        else:
            return []
        return told + self._close(status)

    def _start(self, kind: str, make: Callable[[str, int], OpenItem], text: str = "") -> list[Event]:
        told = self._close("completed")
        self._has_answered = self._has_answered or kind != "rs"
        self._open_at = len(self._output)
        self._open = make(self._item_id(kind), self._open_at)
        self._output.append(self._open.item("in_progress"))
        told += self._open.open()
        return told + self._open.piece(text) if text else told

    def _close(self, status: ItemStatus) -> list[Event]:
        if self._open is None:
            return []
        told = self._open.close(status)
        self._output[self._open_at] = self._open.item(status)
        self._open = None
        return told

    def _item_id(self, kind: str) -> str:
        return f"{kind}_{self.response.id.removeprefix('resp_')}_{len(self._output)}"

    def _ended(self, event: TerminalEvent, status: Status, ended_at: int) -> Response:
        info = self.response.backline
        if isinstance(event, RunCompleted):
            info = msgspec.structs.replace(
                info,
                **answered_by(event),
            )
        return msgspec.structs.replace(
            self.response,
            status=status,
            output=list(self._output),
            usage=_usage(event.usage),
            error=_error(event),
            incomplete_details=_incomplete(event) if status == "incomplete" else None,
            completed_at=max(ended_at, self.response.created_at) if status == "completed" else None,
            backline=info,
        )

    def _say(self, kind: Callable[..., Event], /, **fields: Any) -> Event:
        event = kind(sequence_number=self.count, **fields)
        self.count += 1
        return event


def told_whole(
    response: Response, manner: Manner, log: Sequence[RunEvent], ended_at: int
) -> tuple[Response, list[Event]]:
    """The response and all events of its stream, from the log of a run that has ended."""
    telling = Telling(response, manner)
    told = telling.begin()
    for event in log[:-1]:
        told += telling.add(event)
    last = log[-1]
    if not isinstance(last, TerminalEvent):
        raise TypeError(last)
    told += telling.end(last, ended_at)
    return telling.response, told


def _status_of(event: TerminalEvent, *, is_structured: bool) -> Status:
    match event:
        case RunFailed():
            return "failed"
        case RunCancelled():
            return "cancelled"
        case RunCompleted(finish="length"):
            return "incomplete"
        case RunCompleted(finish="content_filter"):
            return "completed" if is_structured else "incomplete"
    return "completed"


def _error(event: TerminalEvent) -> ResponseError | None:
    if not isinstance(event, RunFailed):
        return None
    return ResponseError(_CODES.get(event.error.kind, "server_error"), event.error.message)


def _incomplete(event: TerminalEvent) -> IncompleteDetails:
    is_length = isinstance(event, RunCompleted) and event.finish == "length"
    return IncompleteDetails("max_output_tokens" if is_length else "content_filter")


def _usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        input_tokens=usage.prompt_tokens,
        input_tokens_details=InputDetails(usage.cache_read_tokens, usage.cache_write_tokens),
        output_tokens=usage.output_tokens,
        output_tokens_details=OutputDetails(),
        total_tokens=usage.prompt_tokens + usage.output_tokens,
    )
