"""A host that is told to slow down slows down as a whole: new calls wait, rather than ask again and again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

_LIMITS = {429, 529}
MOST_S = 30.0
_SPREAD_S = 0.5


class Holds:
    """Until when calls of each model wait."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, model: str, status: int, headers: Mapping[str, str]) -> None:
        """Take note of an answer; only one that names its time holds calls up, and for `MOST_S` at most."""
        if status in _LIMITS and (wait_s := _seconds(headers.get("retry-after", ""))) > 0:
            until = time.monotonic() + min(wait_s, MOST_S)
            self._until[model] = max(until, self._until.get(model, 0.0))

    async def wait(self, model: str) -> None:
        """Wait while calls of `model` are held; those that waited go on one after another, not at once."""
        left = self._until.get(model, 0.0) - time.monotonic()
        if left > 0:
            await asyncio.sleep(left + random.uniform(0, _SPREAD_S))  # noqa: S311 - no secret hangs on it


def _seconds(text: str) -> float:
    """A date is not read: the services behind the CLI give seconds."""
    try:
        return float(text) if 0 < float(text) < float("inf") else 0.0
    except ValueError:
        return 0.0
