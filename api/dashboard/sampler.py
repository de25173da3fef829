"""Takes the samples behind the plots: every API process is ready to, one at a time does."""

from __future__ import annotations

import asyncio
import secrets

from redis.exceptions import RedisError

from shared.happenings import Happening, Happenings
from shared.outage import Outage
from shared.registry import CachedRegistry, Registry
from shared.series import STEP_S, SeriesStore


class Sampler:
    """Looks every few seconds when it has the right to; `run` must be running."""

    def __init__(self, series: SeriesStore, happenings: Happenings, registry: CachedRegistry) -> None:
        self._series = series
        self._happenings = happenings
        self._registry = registry
        self._id = secrets.token_hex(8)
        self._workers: dict[str, bool] | None = None
        """Workers at the last look and whether they took runs; `None` when another process looked."""

    async def run(self) -> None:
        """Sample until cancelled."""
        away = Outage("sample_missed")
        while True:
            try:
                await self._sample()
                away.is_over()
            except (RedisError, OSError) as error:
                away.goes_on(error)
            await asyncio.sleep(STEP_S)

    async def _sample(self) -> None:
        if not await self._series.is_my_turn(self._id):
            self._workers = None
            return
        known = await self._registry.look(fresh=True)
        await self._series.add(await self._series.look(known))
        now = {worker.id: bool(worker.agents) for worker in known.workers}
        if self._workers is not None:
            await self._happenings.note(*_changes(self._workers, now, known))
        self._workers = now


def _changes(before: dict[str, bool], now: dict[str, bool], known: Registry) -> list[Happening]:
    """Workers that came, went, or take no more runs."""
    agents = {worker.id: ", ".join(worker.agents) for worker in known.workers}
    came = [
        Happening(kind="worker_came", subject=each, said=f"serves {agents[each]}" if now[each] else "")
        for each in sorted(now.keys() - before.keys())
    ]
    drains = [
        Happening(kind="drain", subject=each, said="takes no more runs")
        for each in sorted(now.keys() & before.keys())
        if before[each] and not now[each]
    ]
    left = [
        Happening(kind="worker_left", subject=each, said="no longer announces itself")
        for each in sorted(before.keys() - now.keys())
    ]
    return [*came, *drains, *left]
