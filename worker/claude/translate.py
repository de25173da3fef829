"""The CLI's lines into the run's events: a pure state machine, one per turn."""

from __future__ import annotations

from enum import Enum

from shared.content import ToolUsePart
from shared.run_events import (
    ErrorKind,
    Finish,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    TerminalEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
    Usage,
)
from shared.runs import JsonOutput
from worker.claude.answer import Answer
from worker.claude.calls import Calls
from worker.claude.failures import ApiFailure, error_of
from worker.claude.lines import (
    ApiEvent,
    Block,
    Delta,
    Line,
    MessageHead,
    Result,
    decode_assistant,
    decode_line,
    decode_result,
    decode_retry,
    decode_user,
)
from worker.claude.meter import Meter, usage_of

_FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_deferred": "tool_calls",
}
_AUTH_STATUS = frozenset({401, 403})
_BUSY_STATUS = frozenset({429, 503, 529})
_NOT_A_LINE = (ValueError, RecursionError)
"""msgspec's own errors, and those it passes on: text that is not UTF-8, nesting that is too deep."""
_UNREADABLE = Result(subtype="a result that cannot be read", is_error=True)


class Wish(Enum):
    """What the turn now needs from whoever drives the process."""

    GO_ON = "go on"
    INTERRUPT = "interrupt"
    """The model has ended in a way the CLI would carry on from by itself: stop it here."""
    END = "end"
    """The turn is over."""


class Translator:
    """Feed it lines; it gives events, and at the end the terminal event.

    `spent_usd` is what the process had cost before this turn: the CLI's sums are the process's. `calls`
    judges those of the client's tools, `output` says what the answer must be. With `hands_back` a turn that
    has shown nothing ends when the model's service is busy, for others to decide when it is tried again.
    """

    def __init__(
        self,
        spent_usd: float = 0.0,
        calls: Calls | None = None,
        output: JsonOutput | None = None,
        *,
        hands_back: bool = False,
    ) -> None:
        self._hands_back = hands_back
        self._has_shown = False
        self._spent_usd = spent_usd
        self._calls = calls or Calls()
        self._answer = Answer(output)
        self.wish = Wish.GO_ON
        self.skipped_lines = 0
        self.used_tools = False
        self.last_message = ""
        """Id of the last message that the CLI has told whole; empty before the first."""
        self._model = ""
        self._stop_reason: str | None = None
        self._stop_sequence = ""
        self._failure: RunError | None = None
        self._is_message_open = self._is_cut = False
        self._has_spoken = False
        self._block_type = ""
        self._tool_id = ""
        self._tool_name = ""
        self._tool_input: list[str] = []
        self._spent = Meter()
        self._result: Result | None = None

    def feed(self, raw: bytes) -> list[RunEvent]:
        """Translate one line; what is not JSON, or of no known kind, gives no events and is counted."""
        try:
            line = decode_line.decode(raw)
            events = self._translate(line, raw)
        except _NOT_A_LINE:
            self.skipped_lines += 1
            return []
        if events and not self._has_shown:
            self._has_shown = not all(isinstance(event, UpstreamRetry) for event in events)
        return events

    @property
    def usage(self) -> Usage:
        """What has been spent so far: the CLI's own sum once it has given one."""
        if self._result is None or not self._result.usage.output_tokens:
            return self._spent.usage(self._cost_usd)
        return usage_of(self._result.usage, self._cost_usd)

    def go_on_after(self, shown: str, *, is_cut: bool) -> None:
        """Take up an answer of which `shown` was said before; `is_cut` says that it stopped in mid-text."""
        self._has_shown = True
        self._answer.go_on_after(shown, is_cut=is_cut)

    @property
    def answer(self) -> str:
        """All text so far."""
        return self._answer.text

    @property
    def calls(self) -> tuple[ToolUsePart, ...]:
        """The calls of the client's tools so far."""
        return self._calls.made

    @property
    def total_cost_usd(self) -> float:
        """What the process has cost, this turn included."""
        return self._spent_usd + (self._cost_usd or 0.0)

    @property
    def _cost_usd(self) -> float | None:
        if self._result is None or self._result.total_cost_usd is None:
            return None
        return max(0.0, self._result.total_cost_usd - self._spent_usd)

    def terminal(self) -> TerminalEvent | None:
        """How the turn ended; `None` while it has not (or the CLI went away without a word)."""
        if self._failure is not None:
            return RunFailed(error=self._failure, usage=self.usage)
        if self._result is None:
            return None
        stop_reason = self._stop_reason or self._result.stop_reason or ""
        if self._result.stop_reason == "tool_deferred":
            stop_reason = "tool_deferred"
        if stop_reason in _FINISH or not self._result.is_error:
            finish = _FINISH.get(stop_reason, "stop")
            if finish == "stop" and (fault := self._answer.fault()):
                error = RunError(ErrorKind.INVALID_OUTPUT, fault)
                return RunFailed(error=error, usage=self.usage)
            return RunCompleted(
                finish=finish,
                usage=self.usage,
                session_id=self._result.session_id,
                model=self._model,
                stop_sequence=self._stop_sequence if finish == "stop" else "",
            )
        return RunFailed(error=error_of(self._result), usage=self.usage)

    def _translate(self, line: Line, raw: bytes) -> list[RunEvent]:
        if line.type == "stream_event":
            if line.event is None or line.parent_tool_use_id is not None or self._is_cut:
                return []
            return self._api_event(line.event)
        if line.type == "assistant" and line.parent_tool_use_id is None:
            self.last_message = decode_assistant.decode(raw).uuid
            return []
        if line.type == "user" and line.parent_tool_use_id is None:
            content = decode_user.decode(raw).message.content
            return [
                ToolFinished(id=block.tool_use_id, is_error=bool(block.is_error))
                for block in content
                if not isinstance(block, str) and block.type == "tool_result"
            ]
        if line.type == "system" and line.subtype == "api_retry":
            return self._retry(raw)
        if line.type == "result":
            self.wish = Wish.END
            self._result = _UNREADABLE  # the turn is over, whatever the line says besides
            self._result = decode_result.decode(raw)
        return []

    def _api_event(self, event: ApiEvent) -> list[RunEvent]:
        match event.type:
            case "content_block_delta" if event.delta is not None:
                return self._block_goes_on(event.delta)
            case "content_block_start" if event.content_block is not None:
                return self._block_starts(event.content_block)
            case "content_block_stop" if self._block_type == "tool_use":
                return self._call_ends()
            case "message_start" if event.message is not None:
                self._message_starts(event.message)
            case "message_delta":
                return self._message_ends(event)
        return []

    def _block_goes_on(self, delta: Delta) -> list[RunEvent]:
        match delta.type:
            case "text_delta" if delta.text:
                return self._text(delta.text)
            case "thinking_delta" if delta.thinking:
                return [ThinkingDelta(text=delta.thinking)]
            case "input_json_delta":
                return self._arguments(delta.partial_json)
        return []

    def _block_starts(self, block: Block) -> list[RunEvent]:
        self._block_type = block.type
        self._answer.start_block(is_text=block.type == "text")
        self._tool_id, self._tool_name, self._tool_input = block.id, block.name, []
        if block.type != "tool_use":
            return []
        return self._spoken(self._calls.start(block.id, block.name) or [])

    def _call_ends(self) -> list[RunEvent]:
        self._block_type = ""
        if (told := self._calls.stop()) is not None:
            return self._spoken(told)
        self.used_tools = True
        tool_input = "".join(self._tool_input) or "{}"
        return [ToolStarted(id=self._tool_id, name=self._tool_name, input=tool_input)]

    def _message_starts(self, message: MessageHead) -> None:
        self._model = message.model or self._model
        self._stop_reason = None
        if self._is_message_open and self._has_spoken:
            self._fail(None)
        self._is_message_open, self._has_spoken = True, False
        self._calls.start_message()
        self._spent.start(message.usage)

    def _text(self, delta: str) -> list[RunEvent]:
        shown = self._answer.feed(delta)
        if not shown:
            return []
        self._has_spoken = True
        return [TextDelta(text=shown)]

    def _arguments(self, piece: str) -> list[RunEvent]:
        told = self._calls.delta(piece)
        if told is None:
            self._tool_input.append(piece)
            return []
        return self._spoken(told)

    def _spoken(self, events: list[RunEvent]) -> list[RunEvent]:
        self._has_spoken = self._has_spoken or bool(events)
        return events

    def _message_ends(self, event: ApiEvent) -> list[RunEvent]:
        """Note why. At `max_tokens` and at a refusal the CLI would ask the model to go on (CLI 2.1)."""
        self._spent.end(event.usage)
        self._is_message_open = False
        if event.delta is not None and event.delta.stop_reason:
            self._stop_reason = event.delta.stop_reason
            self._stop_sequence = event.delta.stop_sequence or ""
            if self._stop_reason in {"max_tokens", "refusal"}:
                self._is_cut = True  # the CLI may have begun to go on before it hears the interrupt
                self.wish = Wish.INTERRUPT
        told = self._calls.end_message()
        if self._calls.has_given_up:
            said = (
                "The model's arguments for a strict tool did not fit its schema, however often it was told."
            )
            self._fail_with(RunError(ErrorKind.INVALID_OUTPUT, said))
        return told

    def _retry(self, raw: bytes) -> list[RunEvent]:
        retry = decode_retry.decode(raw)
        is_broken_off = self._is_message_open and self._has_spoken
        if retry.error_status in _AUTH_STATUS or is_broken_off:
            self._fail(retry.error_status)
            return []
        if self._hands_back and not self._has_shown and retry.error_status in _BUSY_STATUS:
            self._fail(retry.error_status, retry.retry_delay_ms / 1000)
            return []
        return [
            UpstreamRetry(
                attempt=retry.attempt, status=retry.error_status, delay_s=retry.retry_delay_ms / 1000
            )
        ]

    def _fail(self, status: int | None, retry_after_s: float | None = None) -> None:
        """Let no repeat follow: it mends no credentials, and after shown text it would say another one."""
        error = ApiFailure(status, "").error
        if retry_after_s is not None:
            error = RunError(error.kind, error.message, retry_after_s)
        self._fail_with(error)

    def _fail_with(self, error: RunError) -> None:
        self._failure = error
        self._is_cut = True  # as at `max_tokens`
        self.wish = Wish.INTERRUPT


def is_result(raw: bytes) -> bool:
    """Whether a line ends a turn."""
    try:
        return decode_line.decode(raw).type == "result"
    except _NOT_A_LINE:
        return False
