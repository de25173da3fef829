"""Neighbouring messages of one side gathered into turns, in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from shared.runs import Part, ToolUsePart, Turn

Role = Literal["user", "assistant"]


class TurnsBuilder:
    """Collects messages; `calls` are the ids of tool calls in the newest assistant turn."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self._roles: list[Role] = []
        self._parts: list[list[Part]] = []

    def add(self, role: Role, parts: Iterable[Part]) -> None:
        """Add a message; one without content adds nothing."""
        added = list(parts)
        if not added:
            return
        if not self._roles or self._roles[-1] != role:
            self._roles.append(role)
            self._parts.append([])
            if role == "assistant":
                self.calls = set()
        self._parts[-1] += added
        if role == "assistant":
            self.calls.update(part.id for part in added if isinstance(part, ToolUsePart))

    def turns(self) -> list[Turn]:
        """All turns so far; neighbours have different roles."""
        return [
            Turn(role=role, parts=tuple(parts)) for role, parts in zip(self._roles, self._parts, strict=True)
        ]
