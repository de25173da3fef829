"""The scripted model as tests see it: what reached it, and how each of its replies ended."""

from __future__ import annotations

import re
from typing import Any

import httpx

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>\s*", re.DOTALL)


class ModelCall:
    """One request that reached the model."""

    def __init__(self, view: dict[str, Any]) -> None:
        self.body: dict[str, Any] = view["body"]
        self.ended: str | None = view["ended"]

    @property
    def everything(self) -> str:
        """All of the body, with nothing escaped."""
        return repr(self.body)

    @property
    def system(self) -> str:
        """The system prompt's text."""
        return "\n".join(block["text"] for block in self.body["system"])

    @property
    def turns(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The turns without what the CLI adds of its own: reminders, and messages of role `system`."""
        turns: list[tuple[str, list[dict[str, Any]]]] = []
        for message in self.body["messages"]:
            if message["role"] == "system":
                continue
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            kept = [spoken for block in blocks if (spoken := _without_reminders(block))]
            turns.append((message["role"], kept))
        return turns

    @property
    def said(self) -> list[tuple[str, list[str]]]:
        """The turns' texts."""
        return [(role, [b["text"] for b in blocks if b["type"] == "text"]) for role, blocks in self.turns]


class Model:
    """The scripted model's control endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    def calls(self, marker: str) -> list[ModelCall]:
        """Calls of `/v1/messages` that contain `marker`, oldest first."""
        answer = httpx.get(f"{self.url}/_control/requests", params={"marker": marker}, timeout=10)
        return [ModelCall(view) for view in answer.json() if view["path"] == "/v1/messages"]

    def call(self, marker: str) -> ModelCall:
        """The one call with `marker`."""
        calls = self.calls(marker)
        assert len(calls) == 1, f"{len(calls)} calls reached the model"
        return calls[0]


def without_reminders(text: str) -> str:
    """The text less what the CLI adds of its own."""
    return _REMINDER.sub("", text)


def _without_reminders(block: dict[str, Any]) -> dict[str, Any] | None:
    block = {name: value for name, value in block.items() if name != "cache_control"}
    if block["type"] != "text":
        return block
    text = without_reminders(block["text"])
    return {**block, "text": text} if text.strip() else None
