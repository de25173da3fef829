"""Slows down who guesses keys: failed attempts by address, in bounded memory."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_FAILURES = 30
_WINDOW_S = 60.0
_MOST_ADDRESSES = 10_000


class Throttle:
    """Counts failures of each address for a minute from the first; the oldest address goes first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long this address has to wait, in seconds; 0 for not at all."""
        began, count = self._failures.get(address, (0.0, 0))
        left = began + _WINDOW_S - self._clock()
        return left if count >= _MOST_FAILURES and left > 0 else 0.0

    def note(self, address: str) -> None:
        """Count a failure."""
        began, count = self._failures.get(address, (0.0, 0))
        now = self._clock()
        if not count or now - began >= _WINDOW_S:
            self._failures.pop(address, None)
            began, count = now, 0
        self._failures[address] = (began, count + 1)
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)
