"""A run as the API shows it: what became of it and what it took, and no word of what was said in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from api.errors import failed
from shared.run_events import Finish, RunCancelled, RunCompleted, RunFailed, TerminalEvent
from shared.run_index import RunRecord
from shared.runs import RunState


class RunUsage(msgspec.Struct, frozen=True):
    """Tokens as the CLI counted them; `cost_usd` is its own sum, null where it is not known."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    cost_usd: float | None


class RunFailure(msgspec.Struct, frozen=True):
    """Why a run failed: the `kind` of the table of errors, and the `code` that clients were given."""

    kind: str
    code: str | None
    message: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run. Times are in seconds since the epoch by Redis's clock, null for not yet.

    `wait_s` is the time from its submission to its first start, `run_s` from there to its end.
    """

    id: str
    state: RunState
    agent: str
    tenant: str
    key: str | None
    model: str | None
    batch: bool
    attempts: int
    worker: str | None
    workers: list[str]
    created_at: float
    started_at: float | None
    ended_at: float | None
    wait_s: float | None
    run_s: float | None
    usage: RunUsage | None
    finish: Finish | None
    error: RunFailure | None
    cancel_reason: str | None
    is_cancelling: bool
    request_id: str | None
    conversation_id: str | None
    session_id: str | None
    project_id: str | None
    retry_of: str | None
    stderr: str | None = None
    object: Literal["run"] = "run"


class RunList(msgspec.Struct, frozen=True):
    """Runs, the newest first; `next` is where the next page begins, null where there is none."""

    data: list[Run]
    has_more: bool
    next: str | None
    object: Literal["list"] = "list"


def run_of(record: RunRecord) -> Run:
    """A run as it is shown."""
    about, end = record.about, record.end
    return Run(
        id=record.id,
        state=record.state,
        agent=record.agent,
        tenant=record.tenant,
        key=record.key or None,
        model=about.model or None,
        batch=about.is_batch,
        attempts=record.starts,
        worker=record.workers[-1] if record.workers else None,
        workers=list(record.workers),
        created_at=record.created_ms / 1000,
        started_at=_seconds(record.begun_ms),
        ended_at=_seconds(record.ended_ms),
        wait_s=_between(record.created_ms, record.begun_ms),
        run_s=_between(record.begun_ms, record.ended_ms),
        usage=_usage_of(end) if end is not None else None,
        finish=end.finish if isinstance(end, RunCompleted) else None,
        error=_failure_of(end, record.id) if isinstance(end, RunFailed) else None,
        cancel_reason=end.reason if isinstance(end, RunCancelled) else None,
        is_cancelling=record.is_cancelling and not record.state.is_terminal,
        request_id=about.request_id or None,
        conversation_id=about.conversation or None,
        session_id=(end.session_id or None) if isinstance(end, RunCompleted) else None,
        project_id=about.project or None,
        retry_of=about.retry_of or None,
        stderr=(end.stderr or None) if isinstance(end, RunFailed) else None,
    )


def _usage_of(end: TerminalEvent) -> RunUsage:
    used = end.usage
    return RunUsage(
        used.input_tokens, used.cache_read_tokens, used.cache_write_tokens, used.output_tokens, used.cost_usd
    )


def _failure_of(end: RunFailed, run_id: str) -> RunFailure:
    return RunFailure(end.error.kind.value, failed(end.error, run_id).code, end.error.message)


def _seconds(ms: int) -> float | None:
    return ms / 1000 if ms else None


def _between(first_ms: int, last_ms: int) -> float | None:
    return (last_ms - first_ms) / 1000 if first_ms and last_ms else None
