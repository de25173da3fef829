"""Only the JSON object out of what the model says: no words before it, no fence around it, nothing after."""

from __future__ import annotations

from typing import Any

import msgspec


class JsonText:
    """Feed it pieces of text; it gives what belongs to the first object. A pure state machine."""

    def __init__(self) -> None:
        self._depth = 0
        self._has_begun = False
        self._is_in_string = False
        self._is_escaped = False
        self._kept: list[str] = []

    @property
    def is_whole(self) -> bool:
        """Whether the object has been closed."""
        return self._has_begun and self._depth == 0

    def feed(self, text: str) -> str:
        """The part of `text` that belongs to the object."""
        if self.is_whole:
            return ""
        start = 0
        if not self._has_begun:
            start = text.find("{")
            if start < 0:
                return ""
            self._has_begun = True
        end = self._end_of(text, start)
        kept = text[start:end]
        self._kept.append(kept)
        return kept

    def value(self) -> dict[str, Any] | None:
        """The object; `None` when it is none."""
        try:
            return msgspec.json.decode("".join(self._kept), type=dict[str, Any])
        except (ValueError, RecursionError):
            return None

    def _end_of(self, text: str, start: int) -> int:
        for at in range(start, len(text)):
            character = text[at]
            if self._is_in_string:
                if self._is_escaped:
                    self._is_escaped = False
                elif character == "\\":
                    self._is_escaped = True
                elif character == '"':
                    self._is_in_string = False
            elif character == '"':
                self._is_in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return at + 1
        return len(text)
