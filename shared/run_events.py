"""What a run says, from its start to its end.

Events travel and are stored as MessagePack arrays, so fields are only ever added at the end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from shared.runs import RunState


class ErrorKind(StrEnum):
    """Why a run failed. The edge maps each kind to a status and a code of its own."""

    AGENT_UNAVAILABLE = "agent_unavailable"
    CLI_NOT_STARTED = "cli_not_started"
    CLI_DIED = "cli_died"
    AGENT_OUT_OF_MEMORY = "agent_out_of_memory"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_RATE_LIMITED = "upstream_rate_limited"
    UPSTREAM_OVERLOADED = "upstream_overloaded"
    UPSTREAM_REFUSED_REQUEST = "upstream_refused_request"
    UPSTREAM_ERROR = "upstream_error"
    CONTEXT_TOO_LONG = "context_too_long"
    MAX_TURNS = "max_turns"
    MAX_BUDGET = "max_budget_usd"
    QUEUE_TIMEOUT = "queue_timeout"
    RUN_TIMEOUT = "run_timeout"
    SILENT = "silent"
    WORKER_LOST = "worker_lost"
    SESSION_GONE = "session_gone"
    INVALID_OUTPUT = "invalid_output"
    REVISION_NOT_FOUND = "revision_not_found"
    NOT_PERMITTED = "not_permitted"
    STORAGE_FULL = "storage_full"
    INTERNAL = "internal"

    @classmethod
    def _missing_(cls, _: object) -> ErrorKind:
        """A kind that a newer version tells of: versions run side by side while they are replaced."""
        return cls.INTERNAL


class RunError(msgspec.Struct, frozen=True, array_like=True):
    """A failure as a person should read it; `retry_after_s` is a hint in seconds, where one is known."""

    kind: ErrorKind
    message: str
    retry_after_s: float | None = None


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Tokens as the CLI counted them over all model calls of the run."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None

    @property
    def prompt_tokens(self) -> int:
        """All tokens the model read, from cache or not."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def micro_usd(self) -> int:
        """The cost in millionths of a USD; 0 when it is not known."""
        return max(0, round((self.cost_usd or 0.0) * 1e6))


Finish = Literal["stop", "length", "content_filter", "tool_calls"]


class RunStarted(msgspec.Struct, frozen=True, tag="started", array_like=True):
    """A worker took the run; a second one in the log means that an earlier worker was lost."""

    worker: str


class TextDelta(msgspec.Struct, frozen=True, tag="text", array_like=True):
    """A piece of the answer, as the CLI said it."""

    text: str


class ThinkingDelta(msgspec.Struct, frozen=True, tag="thinking", array_like=True):
    """A piece of the model's thinking."""

    text: str


class ToolStarted(msgspec.Struct, frozen=True, tag="tool_started", array_like=True):
    """The agent uses a tool of its own. `input` is JSON text."""

    id: str
    name: str
    input: str


class ToolFinished(msgspec.Struct, frozen=True, tag="tool_finished", array_like=True):
    """The agent's tool gave its result back to the model."""

    id: str
    is_error: bool


class CallStarted(msgspec.Struct, frozen=True, tag="call", array_like=True):
    """The model calls a tool of the client's; `index` counts the run's calls from 0."""

    index: int
    id: str
    name: str


class CallDelta(msgspec.Struct, frozen=True, tag="call_args", array_like=True):
    """A piece of a call's arguments, which are JSON text."""

    index: int
    arguments: str


class StepKept(msgspec.Struct, frozen=True, tag="step", array_like=True):
    """What the transcript gained when the agent called its tools or heard from them: for another worker.

    `entries` is a JSON list, compressed. It is no reader's to see.
    """

    entries: bytes
    revision: str = ""
    """If it is not empty: the commit that the run's revision stands for; then there are no entries."""


class StderrKept(msgspec.Struct, frozen=True, tag="stderr", array_like=True):
    """Lines that the CLI wrote on standard error, redacted: what is left of it if its worker is lost.

    It is no reader's to see.
    """

    text: str
    killed: bool = False
    """Whether the text is ours: how the CLI was killed before it had said anything. The run begins anew."""


class Restarted(msgspec.Struct, frozen=True, tag="restarted", array_like=True):
    """A worker was lost, and the turn begins anew: what was said before does not count."""


class FellBack(msgspec.Struct, frozen=True, tag="fell_back", array_like=True):
    """A fallback answers from here on, by this model of its own, because the agent could not."""

    upstream: str
    model: str
    because: ErrorKind


class UpstreamRetry(msgspec.Struct, frozen=True, tag="retry", array_like=True):
    """The CLI repeats a failed model call after `delay_s` seconds."""

    attempt: int
    status: int | None
    delay_s: float


class RunCompleted(msgspec.Struct, frozen=True, tag="completed", array_like=True):
    """The turn ended as it should."""

    finish: Finish
    usage: Usage
    session_id: str
    model: str
    stop_sequence: str = ""
    """The stop sequence that was met, if one was."""
    fallback: FellBack | None = None
    """What answered in the agent's place; then there is no session, and the model is the fallback's."""
    cache: Literal["", "hit", "miss"] = ""
    """Whether the answer was kept from an earlier run, or may have been kept for later ones."""
    revision: str = ""
    """The commit of the agent's directory that answered; empty for the directory as it is."""


class RunFailed(msgspec.Struct, frozen=True, tag="failed", array_like=True):
    """The run ended in an error; `usage` is what was spent until then."""

    error: RunError
    usage: Usage = Usage()
    stderr: str = ""
    """The last lines of a CLI that died, redacted: no client's to see in its answer."""


class RunCancelled(msgspec.Struct, frozen=True, tag="cancelled", array_like=True):
    """The run was stopped on request; `usage` is what was spent until then."""

    reason: str
    usage: Usage = Usage()


TerminalEvent = RunCompleted | RunFailed | RunCancelled
OutputEvent = TextDelta | ThinkingDelta | ToolStarted | ToolFinished | CallStarted | CallDelta
RunEvent = (
    RunStarted | OutputEvent | StepKept | StderrKept | Restarted | FellBack | UpstreamRetry | TerminalEvent
)


class LoggedEvent(msgspec.Struct, frozen=True, array_like=True):
    """An event in its place: `n` counts from 1 through the whole run, `attempt` is who wrote it."""

    attempt: int
    n: int
    event: RunEvent


TERMINAL_STATES: dict[type[TerminalEvent], RunState] = {
    RunCompleted: RunState.COMPLETED,
    RunFailed: RunState.FAILED,
    RunCancelled: RunState.CANCELLED,
}


def encode_event(event: RunEvent) -> bytes:
    """Encode one event for the log."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> RunEvent:
    """Decode one event of the log; raises `msgspec.DecodeError` on anything else."""
    return _event_decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[RunEvent] = msgspec.msgpack.Decoder(RunEvent)
