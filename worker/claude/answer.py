"""The text of an answer as it grows: what is shown of each delta, and whether the whole is as it must be."""

from __future__ import annotations

from shared.json_schema import mismatch
from shared.runs import JsonOutput
from worker.claude.json_text import JsonText


class Answer:
    """Feed it the text deltas; `output` says what the answer must be, if not just text."""

    def __init__(self, output: JsonOutput | None = None) -> None:
        self._output = output
        self._json = JsonText() if output is not None else None
        self._pieces: list[str] = []
        self._has_text = False
        self._needs_separator = False

    @property
    def text(self) -> str:
        """All that was shown so far."""
        return "".join(self._pieces)

    def go_on_after(self, shown: str, *, is_cut: bool) -> None:
        """Take up an answer of which `shown` was said before; `is_cut` says that it stopped in mid-text."""
        if self._json is not None:
            self._json.feed(shown)
        if shown:
            self._pieces.append(shown)
            self._has_text = not is_cut

    def start_block(self, *, is_text: bool) -> None:
        """A block begins; a blank line parts what the agent says after a tool from what it said before."""
        self._needs_separator = is_text and self._has_text

    def feed(self, delta: str) -> str:
        """What is to be shown of a delta; empty for what is no part of the JSON asked for."""
        if self._json is not None:
            delta = self._json.feed(delta)
            if not delta:
                return ""
        elif self._needs_separator:
            self._needs_separator = False
            delta = "\n\n" + delta
        self._has_text = True
        self._pieces.append(delta)
        return delta

    def fault(self) -> str:
        """Why the answer is not what it must be; empty when it is."""
        if self._json is None or self._output is None:
            return ""
        value = self._json.value()
        if value is None:
            return "The model's answer is not a JSON object."
        fault = mismatch(value, self._output.schema) if self._output.schema is not None else ""
        return f"The model's answer does not fit the schema asked for: {fault}" if fault else ""
