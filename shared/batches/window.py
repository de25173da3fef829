"""How many lines are under way, in number and in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Self

from shared.tasks import end_tasks

_MOST_BYTES = 64 * 1024 * 1024


class Window:
    """A scope of tasks that lets one in when there is room. What is inside at its end is ended."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._changed = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await end_tasks(list(self._tasks))

    async def enter(self, size: int, most: int) -> bool:
        """Wait for room for one of `size` bytes among at most `most`; `False` when it was closed.

        Raises what a task inside has raised.
        """
        while self._tasks and not self._is_closed:
            if len(self._tasks) < most and sum(self._tasks.values()) + size <= _MOST_BYTES:
                break
            await self._change()
        self._raise()
        return not self._is_closed

    def start(self, work: Coroutine[Any, Any, None], size: int) -> None:
        """Let one in."""
        task = asyncio.ensure_future(work)
        self._tasks[task] = size
        task.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Wait until all have ended, or it was closed; raises what one of them has raised."""
        while self._tasks and not self._is_closed:
            await self._change()
        self._raise()

    def close(self) -> None:
        """Let nobody in any more, and wait for nobody."""
        self._is_closed = True
        self._changed.set()

    async def _change(self) -> None:
        self._raise()
        self._changed.clear()
        await self._changed.wait()

    def _raise(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        error = None if task.cancelled() else task.exception()
        self._failure = self._failure or error
        self._changed.set()
