"""How late an event loop is: what everybody in the process waits for beside what they ask for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

_EVERY_S = 0.25
_KEPT = 240


class LoopDelay:
    """Sleeps, and notes how much too late (s) it woke: to `note`, and for a minute here.

    `run` must be running.
    """

    def __init__(self, note: Callable[[float], None]) -> None:
        self._note = note
        self._delays_s: deque[float] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            late_s = max(0.0, clock() - due)
            self._delays_s.append(late_s)
            self._note(late_s)

    @property
    def p99_ms(self) -> float:
        """Of a hundred looks the second worst, in ms; 0 before the first."""
        ordered = sorted(self._delays_s)
        return round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 2) if ordered else 0.0
