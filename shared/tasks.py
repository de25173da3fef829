"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

_AGAIN_S = 0.5


async def end_tasks(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended; what they raised is dropped.

    Once is not enough: `asyncio.wait_for`, through which redis-py 5 sends, loses a cancel that meets its own
    end (Python 3.11, https://github.com/python/cpython/issues/86296; seen: a worker that never ended).
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # has been seen: asyncio need not complain of it
