"""`claude_options.output_format`: the answer as the CLI's own output would be."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.run_events import (
    RunCompleted,
    RunEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    Usage,
)


class Formatted:
    """Turns one run's events into others whose text is JSON: one object at the end, or a line for each event.

    `is_streamed` is the format `stream-json`.
    """

    def __init__(self, *, is_streamed: bool) -> None:
        self._is_streamed = is_streamed
        self._text: list[str] = []

    def events(self, event: RunEvent) -> list[RunEvent]:
        """What to tell in place of `event`."""
        match event:
            case TextDelta(text=text):
                self._text.append(text)
                return self._line({"type": "text", "text": text})
            case ThinkingDelta(text=text):
                return self._line({"type": "thinking", "thinking": text})
            case ToolStarted(id=id_, name=name, input=input_):
                return self._line({"type": "tool_use", "id": id_, "name": name, "input": _decoded(input_)})
            case ToolFinished(id=id_, is_error=is_error):
                return self._line({"type": "tool_result", "tool_use_id": id_, "is_error": is_error})
            case RunCompleted():
                return [TextDelta(_json(self._result(event))), event]
        return [event]

    def _line(self, said: dict[str, Any]) -> list[RunEvent]:
        return [TextDelta(_json(said) + "\n")] if self._is_streamed else []

    def _result(self, event: RunCompleted) -> dict[str, Any]:
        return {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "result": "".join(self._text),
            "session_id": event.session_id,
            "total_cost_usd": event.usage.cost_usd,
            "usage": _usage(event.usage),
        }


def _usage(usage: Usage) -> dict[str, int]:
    """Tokens in the CLI's own words."""
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _decoded(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return text
