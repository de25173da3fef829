"""A child that is started again when it ends by itself: at first soon, then ever later."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from cli.child import Child, Launch, child

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_S = 0.5
_LONGEST_S = 15.0
"""So that it is there within seconds once what was wrong is mended."""
_MOST_DOUBLINGS = 10
"""Beyond `_LONGEST_S`, and short of what a float can hold."""
_STEADY_S = 60.0
"""Who has lived so long did not die of its start."""


class Comeback:
    """Keeps one child alive; who made this must `end` it. `child` is the newest."""

    child: Child

    def __init__(self, launch: Launch, on_line: Callable[[str], None], at_once: asyncio.Future[None]) -> None:
        self._launch = launch
        self._on_line = on_line
        self._at_once = at_once
        self._scope = AsyncExitStack()
        self._clock = asyncio.get_running_loop().time
        self._started_at = 0.0
        self._deaths = 0
        self.due_at: float | None = None
        """When to start it again, by the loop's clock (s); `None` while it runs."""

    async def start(self) -> None:
        """Start it (again). Raises OSError when it cannot start."""
        self.due_at = None
        self._started_at = self._clock()
        self.child = await self._scope.enter_async_context(
            child(self._launch, on_line=self._on_line, at_once=self._at_once)
        )

    async def note_death(self) -> float:
        """End what it left behind; gives in how many seconds to start it again."""
        await self.end()
        has_lived_s = self._clock() - self._started_at
        self._deaths = 1 if has_lived_s > _STEADY_S else self._deaths + 1
        wait_s = min(_LONGEST_S, _FIRST_S * 2.0 ** min(self._deaths - 1, _MOST_DOUBLINGS))
        self.due_at = self._clock() + wait_s
        return wait_s

    async def end(self) -> None:
        """End it, with all that it has started."""
        await self._scope.aclose()
