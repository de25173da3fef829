"""Neighbouring messages of one side gathered into turns that the model takes, in one pass."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from shared.content import Part, TextPart, ToolResultPart, ToolUsePart, Turn

_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")

Role = Literal["user", "assistant"]


class TurnsBuilder:
    """Collects messages; `calls` are the ids of tool calls in the newest assistant turn."""

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self._answered: set[str] = set()
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
                self.calls, self._answered = set(), set()
        self._parts[-1] += added
        if role == "assistant":
            self.calls.update(part.id for part in added if isinstance(part, ToolUsePart))

    def take_result(self, call: str) -> bool:
        """Note that a call of the newest assistant turn is answered; false if it was before."""
        is_first = call not in self._answered
        self._answered.add(call)
        return is_first

    def turns(self) -> list[Turn]:
        """All turns so far; neighbours have different roles, and the first is the user's."""
        turns = [
            Turn(role=role, parts=tuple(parts)) for role, parts in zip(self._roles, self._parts, strict=True)
        ]
        if turns and turns[0].role == "assistant":  # the model wants the user's turn first
            turns.insert(0, Turn(role="user", parts=(TextPart("."),)))
        return turns


def call_id(given: str) -> str:
    """A call's id as the Messages API takes one: clients bring others, of other servers' calls."""
    if _CALL_ID.fullmatch(given):
        return given
    return f"call_{hashlib.sha256(given.encode(errors='surrogatepass')).hexdigest()[:32]}"


def unanswered(turns: Sequence[Turn]) -> list[str]:
    """Ids of calls that the turn after them does not answer: the model refuses such a conversation."""
    for index, turn in enumerate(turns):
        calls = {part.id for part in turn.parts if isinstance(part, ToolUsePart)}
        after = turns[index + 1].parts if index + 1 < len(turns) else ()
        missing = calls - {part.tool_use_id for part in after if isinstance(part, ToolResultPart)}
        if missing:
            return sorted(missing)
    return []
