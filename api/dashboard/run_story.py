"""What a run's page is told of its events: pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from shared.run_events import (
    CallDelta,
    CallStarted,
    LoggedEvent,
    Restarted,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    UpstreamRetry,
)

What = Literal["start", "text", "thinking", "tool", "tool_end", "call", "arguments", "retry", "anew", "end"]


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as the page shows it; `text` is the event's own words."""

    n: int
    attempt: int
    what: What
    id: str = ""
    name: str = ""
    text: str = ""
    is_error: bool = False


def told(events: Sequence[LoggedEvent], *, with_words: bool) -> list[Told]:
    """What to tell of events; without words nothing that was said, asked of a tool, or called."""
    return [
        Told(n=each.n, attempt=each.attempt, **fields)
        for each in events
        if (fields := _said(each.event, with_words=with_words) or _went(each.event))
    ]


def _said(event: RunEvent, *, with_words: bool) -> dict[str, Any]:
    """Of what the agent says and does."""
    fields: dict[str, Any] = {}
    match event:
        case TextDelta(text=text):
            fields = {"what": "text", "text": text}
        case ThinkingDelta(text=text):
            fields = {"what": "thinking", "text": text}
        case ToolStarted(id=id_, name=name, input=text):
            fields = {"what": "tool", "id": id_, "name": name, "text": text}
        case ToolFinished(id=id_, is_error=is_error):
            fields = {"what": "tool_end", "id": id_, "is_error": is_error}
        case CallStarted(index=index, name=name):
            fields = {"what": "call", "id": str(index), "name": name}
        case CallDelta(index=index, arguments=text):
            fields = {"what": "arguments", "id": str(index), "text": text}
    if not with_words and "text" in fields:
        return {**fields, "text": ""} if "name" in fields else {}
    return fields


def _went(event: RunEvent) -> dict[str, Any]:
    """Of how the run goes."""
    fields: dict[str, Any] = {}
    match event:
        case RunStarted(worker=worker):
            fields = {"what": "start", "name": worker}
        case UpstreamRetry(attempt=attempt, status=status, delay_s=delay_s):
            said = f"model call {attempt} again in {delay_s:g} s ({status or 'no status'})"
            fields = {"what": "retry", "text": said}
        case Restarted():
            fields = {"what": "anew"}
        case RunCompleted(finish=finish):
            fields = {"what": "end", "name": "completed", "text": finish}
        case RunFailed(error=error):
            fields = {"what": "end", "name": "failed", "text": error.message, "is_error": True}
        case RunCancelled(reason=reason):
            fields = {"what": "end", "name": "cancelled", "text": reason}
    return fields
