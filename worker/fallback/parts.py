"""The parts of falling back, put together for a worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from redis.asyncio import Redis

from shared.fallbacks import in_order
from shared.settings import Settings
from worker.fallback.breaker import Breakers
from worker.fallback.fallbacks import Fallbacks
from worker.fallback.service import Services
from worker.fallback.stand_in import StandIn
from worker.fallback.turns import FallbackTurns, Turns, circuit_of


class FallbackParts:
    """`turns` with fallbacks behind them, for which agents to stand in, and connections to be closed."""

    def __init__(self, redis: Redis, turns: Turns, settings: Settings) -> None:
        fallbacks = in_order(settings.fallbacks)
        self._breakers = breakers = Breakers(redis, settings)
        self.services = Services()
        self.fallbacks = Fallbacks(fallbacks, self.services, breakers)
        self.turns = FallbackTurns(turns, self.fallbacks, breakers, settings)
        self.stand_in = StandIn(fallbacks)

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How often each fallback ended how."""
        return self.fallbacks.counts

    async def open_breakers(self, agents: Iterable[str]) -> dict[str, bool]:
        """Whether each breaker is open: those of these agents, and of the fallbacks."""
        names = [*map(circuit_of, agents), *self.fallbacks.circuits]
        is_open = await self._breakers.open(names)
        return {name: name in is_open for name in names}
