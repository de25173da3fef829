"""What a run says, as Backline itself tells it, whatever kind of request it came from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec

from api.accepted import AcceptedRun
from api.errors import ApiError
from api.runs import Runs
from shared.run_events import (
    CallDelta,
    LoggedEvent,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    StderrKept,
    StepKept,
    TextDelta,
    ThinkingDelta,
    ToolStarted,
)

_KEEP_ALIVE = b": keep-alive\n\n"


async def run_frames(
    runs: Runs, run: AcceptedRun, keepalive_s: float, after: int, *, with_words: bool
) -> AsyncIterator[bytes]:
    """The run's events behind number `after` as server-sent events, live, to its end.

    Without words nothing that was said, asked of a tool, or called.
    """
    said_at = time.monotonic()
    try:
        async with aclosing(runs.follow(run, tick_s=keepalive_s)) as batches:
            async for batch in batches:
                frames = b"".join(
                    _frame(logged, with_words=with_words) for logged in batch if logged.n > after
                )
                if not frames and time.monotonic() - said_at >= keepalive_s:
                    frames = _KEEP_ALIVE
                if frames:
                    said_at = time.monotonic()
                    yield frames
    except ApiError as error:
        yield _told({"type": "lost", "code": error.code, "message": error.message})


def _frame(logged: LoggedEvent, *, with_words: bool) -> bytes:
    event = logged.event
    if isinstance(event, StepKept | StderrKept):
        return b""
    if not with_words:
        if isinstance(event, TextDelta | ThinkingDelta | CallDelta):
            return b""
        if isinstance(event, ToolStarted):
            event = msgspec.structs.replace(event, input="")
    said = {"n": logged.n, "attempt": logged.attempt, **_said(event)}
    return b"id: %d\n" % logged.n + _told(said)


def _said(event: RunEvent) -> dict[str, Any]:
    match event:
        case RunCompleted(finish=finish):
            return {"type": "ended", "state": "completed", "finish": finish}
        case RunFailed(error=error):
            failure = {"kind": error.kind, "message": error.message}
            return {"type": "ended", "state": "failed", "error": failure}
        case RunCancelled(reason=reason):
            return {"type": "ended", "state": "cancelled", "reason": reason}
    return {"type": event.__struct_config__.tag, **msgspec.structs.asdict(event)}


def _told(said: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(said) + b"\n\n"
