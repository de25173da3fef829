"""A running chat completion by its id: where it is, and its stop."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from litestar import delete, get

from api.errors import ApiError
from api.runs import Runs
from shared.run_store import RunStatus

_ID = re.compile(r"chatcmpl-([0-9a-f]{44})")
_TAGS = ["OpenAI"]


class CompletionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where a completion is; `state` is queued, running, completed, failed or cancelled."""

    id: str
    run_id: str
    state: str
    attempt: int
    agent: str
    created: int
    object: Literal["chat.completion.status"] = "chat.completion.status"


class CompletionStopped(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a stop; `deleted` (OpenAI's word) is false when it was over already."""

    id: str
    run_id: str
    deleted: bool
    object: Literal["chat.completion.deleted"] = "chat.completion.deleted"


@get("/v1/chat/completions/{completion_id:str}/status", tags=_TAGS)
async def completion_status(completion_id: str, tenant: str, runs: Runs) -> CompletionStatus:
    """Say where a completion is, while its run's record is kept."""
    run_id, status = await _find(completion_id, tenant, runs)
    return CompletionStatus(
        id=completion_id,
        run_id=run_id,
        state=status.state.value,
        attempt=status.attempt,
        agent=status.agent,
        created=status.created_ms // 1000,
    )


@delete("/v1/chat/completions/{completion_id:str}", status_code=200, tags=_TAGS)
async def stop_completion(completion_id: str, tenant: str, runs: Runs) -> CompletionStopped:
    """Stop a completion: whoever reads it sees it end as cancelled."""
    run_id, status = await _find(completion_id, tenant, runs)
    is_stopped = await runs.stop(run_id, status.agent)
    return CompletionStopped(id=completion_id, run_id=run_id, deleted=is_stopped)


async def _find(completion_id: str, tenant: str, runs: Runs) -> tuple[str, RunStatus]:
    match = _ID.fullmatch(completion_id)
    run_id = f"run_{match[1]}" if match else ""
    status = await runs.status(run_id, tenant) if run_id else None
    if status is None:
        said = f"There is no chat completion with the id '{completion_id[:100]}'."
        raise ApiError(404, said, param="completion_id", code="completion_not_found")
    return run_id, status
