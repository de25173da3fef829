"""Bounded waits: for facts that come true by themselves, never for time to pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_POLL_S = 0.02


def wait_for(fact: Callable[[], T], within_s: float, what: str) -> T:
    """Return what `fact` gives once it is true; fails after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(_POLL_S)
    return value


async def eventually(fact: Callable[[], T], within_s: float, what: str) -> T:
    """The same without holding up the event loop."""
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(_POLL_S)
    return value
