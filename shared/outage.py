"""Something is away: said at once, then ever less often, and once more when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 60.0

_log = structlog.get_logger(__name__)


class Outage:
    """What a log is told of one thing that is tried over and over.

    `event` is the name of the warning; the end is logged as `event` with `_over`.
    """

    def __init__(self, event: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._event = event
        self._clock = clock
        self._began_at: float | None = None
        self._due_at = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._unsaid = 0

    def goes_on(self, error: BaseException) -> None:
        """It was tried and is away: logged when it is time to."""
        now = self._clock()
        if self._began_at is None:
            self._began_at = self._due_at = now
            self._pause_s = _FIRST_PAUSE_S
        if now < self._due_at:
            self._unsaid += 1
            return
        _log.warning(self._event, error=str(error), for_s=round(now - self._began_at, 1), unsaid=self._unsaid)
        self._due_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self._unsaid = 0

    def is_over(self) -> None:
        """It was tried and is there: logged when it had been away."""
        if self._began_at is not None:
            away_s = round(self._clock() - self._began_at, 1)
            _log.info(f"{self._event}_over", after_s=away_s, unsaid=self._unsaid)
            self._began_at, self._unsaid = None, 0
