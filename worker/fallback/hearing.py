"""The chunks of another service's Chat Completions stream into the run's events. Pure, no I/O."""

from __future__ import annotations

import msgspec

from shared.json_schema import mismatch
from shared.run_events import (
    ErrorKind,
    FellBack,
    Finish,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    TerminalEvent,
    TextDelta,
    ThinkingDelta,
    Usage,
)
from shared.runs import RunRequest
from worker.claude.calls import Calls
from worker.claude.client_tools import ClientTools
from worker.claude.json_text import JsonText

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class UnreadableError(Exception):
    """What came is no stream of a chat completion, or it says that the service failed."""


class _Function(msgspec.Struct, frozen=True):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, frozen=True):
    index: int = 0
    id: str | None = None
    function: _Function = _Function()


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Details(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct, frozen=True):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw | None = None


class Hearing:
    """Feed it the data of a stream's events; it gives the run's, and at the end the terminal one."""

    def __init__(self, request: RunRequest, fell_back: FellBack) -> None:
        self._fell_back = fell_back
        self._output = request.output
        self._json = JsonText() if request.output is not None else None
        self._tools = ClientTools.of(request)
        self._calls = Calls(self._tools, request.tool_choice)
        self._open_call: int | None = None
        self._model = fell_back.model
        self._finish: Finish | None = None
        self._usage = Usage()
        self._calls.start_message()

    @property
    def is_whole(self) -> bool:
        """Whether the service has said how the answer ended."""
        return self._finish is not None

    def feed(self, data: str) -> list[RunEvent]:
        """Take one event's data in; raises `UnreadableError`."""
        try:
            chunk = _decode.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise UnreadableError("it sent what is no chunk") from error
        if chunk.error is not None and chunk.error != b"null":
            raise UnreadableError("it reported an error in its stream")
        self._model = chunk.model or self._model
        if chunk.usage is not None:
            self._usage = _usage_of(chunk.usage)
        events: list[RunEvent] = []
        for choice in (chunk.choices or [])[:1]:
            events += self._hear(choice.delta)
            if choice.finish_reason is not None:
                events += self._close_call()
                events += self._calls.end_message()
                self._finish = _FINISH.get(choice.finish_reason, "stop")
        return events

    def terminal(self) -> TerminalEvent:
        """How the run ends, once the answer is whole."""
        if fault := self._fault():
            return RunFailed(error=RunError(ErrorKind.INVALID_OUTPUT, fault), usage=self._usage)
        finish = self._finish or "stop"
        if self._calls.made and finish == "stop":  # some services say so after calls
            finish = "tool_calls"
        return RunCompleted(
            finish=finish,
            usage=self._usage,
            session_id="",
            model=self._model,
            fallback=msgspec.structs.replace(self._fell_back, model=self._model),
        )

    def _hear(self, delta: _Delta) -> list[RunEvent]:
        events: list[RunEvent] = []
        if delta.reasoning_content:
            events.append(ThinkingDelta(text=delta.reasoning_content))
        if text := (delta.content or "") + (delta.refusal or ""):
            text = self._json.feed(text) if self._json is not None else text
            events += [TextDelta(text=text)] if text else []
        for call in delta.tool_calls or ():
            events += self._call(call)
        return events

    def _call(self, call: _Call) -> list[RunEvent]:
        events: list[RunEvent] = []
        if call.index != self._open_call:
            events += self._close_call()
            name = self._tools.shown(call.function.name or "")
            told = self._calls.start(call.id or f"call_{call.index}", name)
            if told is None:
                raise UnreadableError("it called a tool that it was not given")
            events += told
            self._open_call = call.index
        return events + (self._calls.delta(call.function.arguments or "") or [])

    def _close_call(self) -> list[RunEvent]:
        if self._open_call is None:
            return []
        self._open_call = None
        return self._calls.stop() or []

    def _fault(self) -> str:
        if self._calls.was_denied:
            return "The fallback's arguments for a strict tool did not fit its schema."
        if self._json is None or self._output is None or self._finish != "stop" or self._calls.made:
            return ""
        value = self._json.value()
        if value is None:
            return "The fallback's answer is not a JSON object."
        fault = mismatch(value, self._output.schema) if self._output.schema is not None else ""
        return f"The fallback's answer does not fit the schema asked for: {fault}" if fault else ""


def _usage_of(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    return Usage(
        input_tokens=max(0, usage.prompt_tokens - cached),
        cache_read_tokens=cached,
        output_tokens=usage.completion_tokens,
    )


_decode = msgspec.json.Decoder(_Chunk)
