"""Ctrl-C and SIGTERM: the first asks everything to end in order, the second ends it at once."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_PRESS_S = 0.3
"""One Ctrl-C may arrive twice: from the terminal, and again from a `make` or a script that passes it on."""


class Stop:
    """What the operator has asked for so far; both are futures of the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.requested: asyncio.Future[None] = self._loop.create_future()
        self.at_once: asyncio.Future[None] = self._loop.create_future()
        self._first_at = 0.0

    def request(self) -> None:
        """Count one request to stop."""
        if not self.requested.done():
            self._first_at = self._loop.time()
            self.requested.set_result(None)
        elif self._loop.time() - self._first_at > _SAME_PRESS_S:
            self.hurry()

    def hurry(self) -> None:
        """Have everything end at once."""
        if not self.at_once.done():
            self.at_once.set_result(None)

    def hurry_in(self, delay_s: float) -> None:
        """Have everything that is left after `delay_s` seconds end at once."""
        self._loop.call_later(delay_s, self.hurry)


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Turn this process's stop signals into a `Stop` while the scope is open."""
    loop = asyncio.get_running_loop()
    stop = Stop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.request)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
