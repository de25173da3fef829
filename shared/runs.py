"""The narrow waist: a run, what it is asked to do, and what it says.

Every way in is translated into a `RunRequest`, every way out from `RunEvent`s. Events travel and are
stored as MessagePack arrays, so fields are only ever added at the end, and each record carries a version.
"""

from __future__ import annotations

import secrets
import time
from enum import StrEnum
from typing import Any, Literal

import msgspec

from shared.redis_keys import batch_queue, place, queue

REQUEST_VERSION = 1


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """An image. `data` is base64; `media_type` is one of the model's (`image/png`, …)."""

    media_type: str
    data: str


class DocumentPart(msgspec.Struct, frozen=True, tag="document"):
    """A document: `application/pdf` with `data` in base64, or `text/plain` with `data` as it is.

    `title` is what it is called; empty when it has no name.
    """

    media_type: Literal["application/pdf", "text/plain"]
    data: str
    title: str = ""


class ToolUsePart(msgspec.Struct, frozen=True, tag="tool_use"):
    """A call the assistant made in an earlier turn. `input` is the decoded JSON object."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultPart(msgspec.Struct, frozen=True, tag="tool_result"):
    """What a call of an earlier turn gave back."""

    tool_use_id: str
    text: str
    is_error: bool = False


Part = TextPart | ImagePart | DocumentPart | ToolUsePart | ToolResultPart


class Turn(msgspec.Struct, frozen=True):
    """One side's say in a conversation; neighbouring turns have different roles."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


OnWorkerLoss = Literal["resume", "fail", "rerun"]
Tier = Literal["priority", "default", "flex"]
TIERS: tuple[Tier, ...] = ("priority", "default", "flex")
"""In the order in which their runs start."""
Effort = Literal["none", "low", "medium", "high", "xhigh", "max"]


class Sampling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request may ask of the model's sampling; `None` leaves the agent's own.

    `max_output_tokens` bounds each model call in tokens; `effort` `none` switches thinking off.
    """

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    effort: Effort | None = None


class ClientTool(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function of the client's that the model may call; `parameters` is a JSON Schema of an object.

    With `strict`, arguments that the schema does not allow never reach the client.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class ToolChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether the model may or must call a client tool; `name` is the one of `mode` `named`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""
    is_parallel: bool = True
    """Whether one answer may hold several calls."""


class JsonOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer is to be one JSON object; with `schema`, one that this JSON Schema allows."""

    schema: dict[str, Any] | None = None


class LaunchOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a request may change of how the CLI is started; defaults leave the agent's own set-up.

    JSON stands as text, so that two options compare and hash alike.
    """

    tools: tuple[str, ...] | None = None
    """The CLI's own tools that are there at all; none when empty."""
    disallowed_tools: tuple[str, ...] = ()
    permission_mode: str | None = None
    max_turns: int | None = None
    """Model calls of a turn."""
    max_budget_usd: float | None = None
    agents: str | None = None
    """Sub-agents by name, a JSON object."""
    add_dirs: tuple[str, ...] = ()
    mcp_config: str | None = None
    """MCP servers, a JSON object, beside or (`is_mcp_strict`) in place of the agent's own."""
    is_mcp_strict: bool = False
    working_dir: str | None = None


class CacheTerms(msgspec.Struct, frozen=True):
    """Under which name an answer may be kept (`shared.answer_cache`), and for how long, in seconds."""

    name: str
    ttl_s: float


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a worker needs to know to run one turn of an agent.

    `prompt` is the newest user message, `history` the turns before it (with a `session`: those it does not
    hold yet), `system` is appended to the agent's own system prompt. `model` is a Claude model or alias
    (`None`: the agent's own choice).
    """

    agent: str
    prompt: tuple[Part, ...]
    history: tuple[Turn, ...] = ()
    model: str | None = None
    system: str | None = None
    sampling: Sampling = Sampling()
    tenant: str = "default"
    request_id: str = ""
    timeout_s: float | None = None
    prefix: str = ""
    """Hash of the history (`shared.prefix`); empty when there is none."""
    conversation: str = ""
    """Id of the stored conversation that this turn is added to; empty when the client named none."""
    session: str = ""
    """The one session to go on from: the history is what it holds up to `head`, and nothing else will do."""
    head: str = ""
    """Id of the session's transcript entry to go on from; empty when only a live process can hold it."""
    items: tuple[str, ...] = ()
    """Ids of the conversation's added items that this turn tells the model, in `history` and `prompt`."""
    project: str = ""
    """Id of the working copy to run in; empty for the agent's own directory."""
    version: int = REQUEST_VERSION
    tools: tuple[ClientTool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    output: JsonOutput | None = None
    options: LaunchOptions = LaunchOptions()
    is_batch: bool = False
    """Whether nobody waits for it: it gives way to runs that somebody waits for."""

    @property
    def place(self) -> str:
        """What the run's queue is named after, and where its conversation belongs."""
        return place(self.agent, self.project)

    @property
    def queue(self) -> str:
        """The name in Redis of the queue it waits in."""
        return batch_queue(self.place) if self.is_batch else queue(self.place)

    @property
    def added(self) -> tuple[Turn, ...]:
        """Turns that the session to go on from does not hold yet; without a session `history` is all."""
        return self.history if self.session else ()

    on_worker_loss: OnWorkerLoss | None = None
    """What becomes of a turn that had shown something when its worker was lost; `None`: the setting."""
    key: str = ""
    """Id of the API key it runs for; empty for none."""
    retry_of: str = ""
    """Id of the dead run that an operator has begun anew as this one."""
    may_fall_back: bool = True
    """Whether something else than the agent may answer."""
    may_cache: bool | None = None
    """Whether the answer may be one that is kept, and be kept; `None`: the setting."""
    cache: CacheTerms | None = None
    """How to keep the answer; `None` when it is not to be kept."""
    tier: Tier = "default"
    """What it waits behind: the runs of its own tier and those before it."""
    max_tool_calls: int | None = None
    """How many calls of the agent's own tools, its sub-agents' among them, the turn may make."""
    traceparent: str = ""
    """The trace that it is part of (W3C Trace Context, version 00); empty when nobody traces it."""


class RunState(StrEnum):
    """Where a run is. A terminal state is entered once and never left."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED}


class ErrorKind(StrEnum):
    """Why a run failed. The edge maps each kind to a status and a code of its own."""

    AGENT_UNAVAILABLE = "agent_unavailable"
    CLI_NOT_STARTED = "cli_not_started"
    CLI_DIED = "cli_died"
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
    NOT_PERMITTED = "not_permitted"
    INTERNAL = "internal"


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


class StderrKept(msgspec.Struct, frozen=True, tag="stderr", array_like=True):
    """Lines that the CLI wrote on standard error, redacted: what is left of it if its worker is lost.

    It is no reader's to see.
    """

    text: str


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


def new_run_id() -> str:
    """A run id: 12 hex digits of milliseconds, so that ids sort by age, then 128 random bits."""
    return f"run_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(16)}"


def encode_event(event: RunEvent) -> bytes:
    """Encode one event for the log."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> RunEvent:
    """Decode one event of the log; raises `msgspec.DecodeError` on anything else."""
    return _event_decoder.decode(data)


def encode_request(request: RunRequest) -> bytes:
    """Encode a request for the run record."""
    return _encoder.encode(request)


def decode_request(data: bytes) -> RunRequest:
    """Decode a request of the run record; raises `msgspec.DecodeError` on anything else."""
    return _request_decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_event_decoder: msgspec.msgpack.Decoder[RunEvent] = msgspec.msgpack.Decoder(RunEvent)
_request_decoder = msgspec.msgpack.Decoder(RunRequest)
