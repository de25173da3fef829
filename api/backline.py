"""What Backline has to say beside a protocol's own words, and what a request may ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from shared.run_events import RunCompleted, ToolFinished, ToolStarted
from shared.runs import OnWorkerLoss
from shared.settings import Settings


class BacklineOptions(msgspec.Struct, frozen=True):
    """What to show of the run, what becomes of it without its worker, and what else may answer."""

    show: list[Literal["thinking", "tools"]] | None = None
    on_worker_loss: OnWorkerLoss | None = None
    fallback: bool | None = None
    cache: bool | None = None


class DetachableOptions(BacklineOptions, frozen=True):
    """Also whether the run of a stream goes on when its client is gone."""

    on_disconnect: Literal["cancel", "continue"] | None = None


def shown(options: BacklineOptions | None, agent: str, settings: Settings) -> frozenset[str]:
    """What else of a run to show: as the request says, else as the operator does for the agent."""
    if options is not None and options.show is not None:
        return frozenset(options.show)
    entries = (entry.rpartition("=") for entry in settings.show)
    return frozenset(what for name, _, what in entries if name in {"", agent})


def may_cache(options: BacklineOptions | None) -> bool | None:
    """Whether a kept answer will do, if the request says so."""
    return options.cache if options is not None else None


def may_fall_back(options: BacklineOptions | None) -> bool:
    """Whether a fallback may answer a request."""
    return options is None or options.fallback is not False


class ToolActivity(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent does with a tool of its own; `input` is JSON text."""

    id: str
    status: Literal["started", "finished", "failed"]
    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


class DebugInfo(msgspec.Struct, frozen=True):
    """How a run went: the workers that had it, one an attempt, and how often a model call was repeated."""

    workers: list[str]
    retries: int


class FallbackInfo(msgspec.Struct, frozen=True):
    """What answered in the agent's place: a fallback, by this model of its own, and why."""

    name: str
    model: str
    because: str


class BacklineInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only Backline can say of an answer; `cost_usd` is the CLI's own sum."""

    run_id: str
    agent: str
    session_id: str | None = None
    conversation_id: str | None = None
    claude_model: str | None = None
    cost_usd: float | None = None
    ignored: list[str] = []
    tool: ToolActivity | UnsetType = UNSET
    tools: list[ToolActivity] | UnsetType = UNSET
    debug: DebugInfo | UnsetType = UNSET
    resumed: bool | UnsetType = UNSET
    """In a stream: the worker was lost, and another one goes on with the answer from here."""
    fallback: FallbackInfo | UnsetType = UNSET
    cache: Literal["hit", "miss"] | UnsetType = UNSET
    agent_revision: str | UnsetType = UNSET
    """The commit of the agent's directory that answered, where the request named a revision."""


def info_of(
    event: RunCompleted, *, run_id: str, agent: str, conversation: str, ignored: Sequence[str]
) -> BacklineInfo:
    """Backline's own words on a completed run."""
    return BacklineInfo(
        run_id=run_id,
        agent=agent,
        conversation_id=conversation or None,
        ignored=list(ignored),
        **answered_by(event),
    )


def answered_by(event: RunCompleted) -> dict[str, Any]:
    """The fields of a `BacklineInfo` that say what answered, and what it took."""
    fallback = event.fallback
    return {
        "session_id": event.session_id or None,
        "claude_model": event.model if fallback is None else None,
        "cost_usd": event.usage.cost_usd,
        "cache": event.cache or UNSET,
        "agent_revision": event.revision or UNSET,
        "fallback": UNSET
        if fallback is None
        else FallbackInfo(fallback.upstream, fallback.model, fallback.because.value),
    }


def activity_of(event: ToolStarted | ToolFinished) -> ToolActivity:
    """What the agent does with a tool of its own."""
    if isinstance(event, ToolStarted):
        return ToolActivity(id=event.id, status="started", name=event.name, input=event.input)
    return ToolActivity(id=event.id, status="failed" if event.is_error else "finished")


def run_headers(run_id: str, conversation: str = "", session_id: str | None = None) -> dict[str, str]:
    """The headers that name what answers a request; the session when it is known."""
    headers = {"x-backline-run-id": run_id}
    if conversation:
        headers["x-backline-conversation-id"] = conversation
    if session_id:
        headers["x-backline-session-id"] = session_id
    return headers
