"""How late an event loop is: what everybody in the process waits for beside what they ask for."""

from __future__ import annotations

import asyncio
from collections import deque

_EVERY_S = 0.1
_KEPT = 600


class LoopDelay:
    """Sleeps, and notes how much too late it woke; `run` must be running. It keeps the last minute."""

    def __init__(self) -> None:
        self._delays_s: deque[float] = deque(maxlen=_KEPT)

    async def run(self) -> None:
        """Look until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self._delays_s.append(max(0.0, clock() - due))

    @property
    def p99_ms(self) -> float:
        """Of a hundred looks the second worst, in ms; 0 before the first."""
        ordered = sorted(self._delays_s)
        return round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 2) if ordered else 0.0
