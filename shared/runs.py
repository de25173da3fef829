"""A run: what it is asked to do, and where it is.

With `shared.run_events` this is the narrow waist: every way in is translated into a `RunRequest`, every way
out from `RunEvent`s. Fields are only ever added at the end, and each record carries a version.
"""

from __future__ import annotations

import secrets
import time
from enum import StrEnum
from typing import Any, Literal

import msgspec

from shared.content import Part, Turn
from shared.redis_keys import batch_queue, place, queue

REQUEST_VERSION = 1
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
    revision: str = ""
    """Git tag, branch or commit of the agent's directory to run; empty for the directory as it is."""


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


def new_run_id() -> str:
    """A run id: 12 hex digits of milliseconds, so that ids sort by age, then 128 random bits."""
    return f"run_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(16)}"


def encode_request(request: RunRequest) -> bytes:
    """Encode a request for the run record."""
    return _encoder.encode(request)


def decode_request(data: bytes) -> RunRequest:
    """Decode a request of the run record; raises `msgspec.DecodeError` on anything else."""
    return _request_decoder.decode(data)


_encoder = msgspec.msgpack.Encoder()
_request_decoder = msgspec.msgpack.Decoder(RunRequest)
