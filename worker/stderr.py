"""What a CLI writes on standard error, put into its run's log: all that is left if its worker dies."""

from __future__ import annotations

from collections.abc import Callable

from shared.run_events import RunEvent, StderrKept
from shared.telemetry import redacted

MOST_STDERR = 4_000
"""Characters of it that are told of a dead run."""
_MOST_BYTES = 16_000
"""Of a turn: the log is no place for a CLI that goes on and on."""


class Stderr:
    """Says whole lines, redacted, up to a bound."""

    def __init__(self, say: Callable[[RunEvent], None]) -> None:
        self._say = say
        self._left = _MOST_BYTES
        self._rest = b""

    def hear(self, data: bytes) -> None:
        """Take what was written; a line waits until it is whole, so that no key in it is cut in two."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[:MOST_STDERR]
        if newline and self._left > 0:
            self._left -= len(whole) + 1
            text = redacted(whole.decode("utf-8", "replace"))
            self._say(StderrKept(text=text[-MOST_STDERR:] + "\n"))
