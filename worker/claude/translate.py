"""The CLI's lines into the run's events: a pure state machine, one per turn."""

from __future__ import annotations

import re
from enum import Enum

import msgspec

from shared.runs import (
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
from worker.claude.lines import (
    ApiEvent,
    Line,
    Result,
    TokenCount,
    decode_line,
    decode_result,
    decode_retry,
    decode_user,
)

_FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_deferred": "tool_calls",
}
_AUTH_STATUS = frozenset({401, 403})
_NOT_A_LINE = (ValueError, RecursionError)
"""msgspec's own errors, and those it passes on: text that is not UTF-8, nesting that is too deep."""
_OPERATORS_ADVICE = re.compile(r" If it persists, check your inference gateway \([^)]*\)\.?")
"""Part of the CLI's message that names the operator's own hosts (CLI 2.1)."""
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

    `spent_usd` is what the process had cost before this turn: the CLI's sums are the process's.
    """

    def __init__(self, spent_usd: float = 0.0) -> None:
        self._spent_usd = spent_usd
        self._answer: list[str] = []
        self.wish = Wish.GO_ON
        self.skipped_lines = 0
        self.used_tools = False
        self._model = ""
        self._stop_reason: str | None = None
        self._failure: ApiFailure | None = None
        self._is_message_open = self._is_cut = False
        self._has_spoken = False
        self._has_text = False
        self._block_type = ""
        self._needs_separator = False
        self._tool_id = ""
        self._tool_name = ""
        self._tool_input: list[str] = []
        self._spent = _Meter()
        self._result: Result | None = None

    def feed(self, raw: bytes) -> list[RunEvent]:
        """Translate one line; what is not JSON, or of no known kind, gives no events and is counted."""
        try:
            line = decode_line.decode(raw)
            return self._translate(line, raw)
        except _NOT_A_LINE:
            self.skipped_lines += 1
            return []

    @property
    def usage(self) -> Usage:
        """What has been spent so far: the CLI's own sum once it has given one."""
        if self._result is None or not self._result.usage.output_tokens:
            return self._spent.usage(self._cost_usd)
        return _usage(self._result.usage, self._cost_usd)

    @property
    def answer(self) -> str:
        """All text so far."""
        return "".join(self._answer)

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
            return RunFailed(error=self._failure.error, usage=self.usage)
        if self._result is None:
            return None
        stop_reason = self._stop_reason or self._result.stop_reason or ""
        if stop_reason in _FINISH or not self._result.is_error:
            return RunCompleted(
                finish=_FINISH.get(stop_reason, "stop"),
                usage=self.usage,
                session_id=self._result.session_id,
                model=self._model,
            )
        return RunFailed(error=_error_of(self._result), usage=self.usage)

    def _translate(self, line: Line, raw: bytes) -> list[RunEvent]:
        if line.type == "stream_event":
            if line.event is None or line.parent_tool_use_id is not None or self._is_cut:
                return []
            return self._api_event(line.event)
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
        delta = event.delta
        match event.type:
            case "content_block_delta" if delta is not None:
                if delta.type == "text_delta":
                    return [self._text(delta.text)] if delta.text else []
                if delta.type == "thinking_delta":
                    return [ThinkingDelta(text=delta.thinking)] if delta.thinking else []
                if delta.type == "input_json_delta":
                    self._tool_input.append(delta.partial_json)
            case "content_block_start" if event.content_block is not None:
                block = event.content_block
                self._block_type = block.type
                self._needs_separator = block.type == "text" and self._has_text
                self._tool_id, self._tool_name, self._tool_input = block.id, block.name, []
            case "content_block_stop" if self._block_type == "tool_use":
                self.used_tools = True
                self._block_type = ""
                tool_input = "".join(self._tool_input) or "{}"
                return [ToolStarted(id=self._tool_id, name=self._tool_name, input=tool_input)]
            case "message_start" if event.message is not None:
                self._model = event.message.model or self._model
                self._stop_reason = None
                if self._is_message_open and self._has_spoken:
                    self._fail(None)
                self._is_message_open, self._has_spoken = True, False
                self._spent.start(event.message.usage)
            case "message_delta":
                self._message_ends(event)
        return []

    def _text(self, text: str) -> TextDelta:
        """A delta; a blank line parts what the agent says after a tool from what it said before."""
        self._has_text = self._has_spoken = True
        if self._needs_separator:
            self._needs_separator = False
            text = "\n\n" + text
        self._answer.append(text)
        return TextDelta(text=text)

    def _message_ends(self, event: ApiEvent) -> None:
        """Note why. At `max_tokens` and at a refusal the CLI would ask the model to go on (CLI 2.1)."""
        self._spent.end(event.usage)
        self._is_message_open = False
        if event.delta is not None and event.delta.stop_reason:
            self._stop_reason = event.delta.stop_reason
            if self._stop_reason in {"max_tokens", "refusal"}:
                self._is_cut = True  # the CLI may have begun to go on before it hears the interrupt
                self.wish = Wish.INTERRUPT

    def _retry(self, raw: bytes) -> list[RunEvent]:
        retry = decode_retry.decode(raw)
        is_broken_off = self._is_message_open and self._has_spoken
        if retry.error_status in _AUTH_STATUS or is_broken_off:
            self._fail(retry.error_status)
            return []
        return [
            UpstreamRetry(
                attempt=retry.attempt, status=retry.error_status, delay_s=retry.retry_delay_ms / 1000
            )
        ]

    def _fail(self, status: int | None) -> None:
        """Let no repeat follow: it mends no credentials, and after shown text it would say another one."""
        self._failure = ApiFailure(status, "")
        self._is_cut = True  # as at `max_tokens`
        self.wish = Wish.INTERRUPT


def is_result(raw: bytes) -> bool:
    """Whether a line ends a turn."""
    try:
        return decode_line.decode(raw).type == "result"
    except _NOT_A_LINE:
        return False


class ApiFailure:
    """A failed model call, as the CLI reports it: an HTTP status (`None`: no answer) and its words."""

    def __init__(self, status: int | None, message: str) -> None:
        self._status = status
        self._message = message

    @property
    def error(self) -> RunError:
        """The same in our terms."""
        match self._status:
            case 401 | 403:
                return RunError(
                    ErrorKind.UPSTREAM_AUTH,
                    "The model's service refused this server's credentials; its operator must mend them.",
                )
            case 429:
                return RunError(
                    ErrorKind.UPSTREAM_RATE_LIMITED, self._say("is limiting this server's rate"), 20.0
                )
            case 529 | 503:
                return RunError(ErrorKind.UPSTREAM_OVERLOADED, self._say("is overloaded"), 10.0)
            case 400 | 404 | 413 | 422:
                return RunError(ErrorKind.UPSTREAM_REFUSED_REQUEST, self._say("refused the request"))
            case _:
                return RunError(ErrorKind.UPSTREAM_ERROR, self._say("could not be reached or failed"))

    def _say(self, what: str) -> str:
        """Our own words; the service's are the client's to know only when they are about its request."""
        is_about_request = self._status in {400, 413, 422}
        return f"The model's service {what}." + (f" {self._message[:500]}" if is_about_request else "")


def _error_of(result: Result) -> RunError:
    said = _OPERATORS_ADVICE.sub("", result.result or "; ".join(result.errors))
    if said.startswith("Not logged in"):
        return ApiFailure(401, said).error
    if result.terminal_reason == "prompt_too_long":
        return RunError(
            ErrorKind.CONTEXT_TOO_LONG, said or "The conversation is longer than the model can read."
        )
    if result.subtype == "error_max_turns":
        return RunError(ErrorKind.MAX_TURNS, "The agent took as many turns as it may.")
    if result.api_error_status is not None or result.terminal_reason == "api_error":
        return ApiFailure(result.api_error_status, said).error
    return RunError(
        ErrorKind.INTERNAL, f"The agent's turn ended in an error: {said[:500] or result.subtype}."
    )


class _Meter:
    """Tokens counted from the stream, for turns that end before the CLI sums them up."""

    def __init__(self) -> None:
        self._done = Usage()
        self._started: TokenCount | None = None
        self._output = 0

    def start(self, count: TokenCount | None) -> None:
        self._close()
        self._started = count or TokenCount()

    def end(self, count: TokenCount | None) -> None:
        if count is not None and count.output_tokens is not None:
            self._output = count.output_tokens

    def usage(self, cost_usd: float | None) -> Usage:
        return msgspec.structs.replace(self._sum(), cost_usd=cost_usd)

    def _close(self) -> None:
        self._done = self._sum()
        self._started, self._output = None, 0

    def _sum(self) -> Usage:
        if self._started is None:
            return self._done
        add = _usage(self._started, None)
        return Usage(
            input_tokens=self._done.input_tokens + add.input_tokens,
            cache_read_tokens=self._done.cache_read_tokens + add.cache_read_tokens,
            cache_write_tokens=self._done.cache_write_tokens + add.cache_write_tokens,
            output_tokens=self._done.output_tokens + (self._output or add.output_tokens),
        )


def _usage(count: TokenCount, cost_usd: float | None) -> Usage:
    return Usage(
        input_tokens=count.input_tokens or 0,
        cache_read_tokens=count.cache_read_input_tokens or 0,
        cache_write_tokens=count.cache_creation_input_tokens or 0,
        output_tokens=count.output_tokens or 0,
        cost_usd=cost_usd,
    )
