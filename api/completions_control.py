"""Where a chat completion is, by its id."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from litestar import get

from api.access import READ
from api.openai.stored import completion_not_found
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
    position: int | None = None
    """How many runs start before this one and with it, while it waits."""
    object: Literal["chat.completion.status"] = "chat.completion.status"


@get("/v1/chat/completions/{completion_id:str}/status", tags=_TAGS, opt=READ)
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
        position=await runs.place(run_id) or None,
    )


async def _find(completion_id: str, tenant: str, runs: Runs) -> tuple[str, RunStatus]:
    match = _ID.fullmatch(completion_id)
    run_id = f"run_{match[1]}" if match else ""
    status = await runs.status(run_id, tenant) if run_id else None
    if status is None:
        raise completion_not_found(completion_id)
    return run_id, status
