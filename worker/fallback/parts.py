"""The parts of falling back, put together for a worker."""

from __future__ import annotations

from redis.asyncio import Redis

from shared.fallbacks import in_order
from shared.settings import Settings
from worker.fallback.breaker import Breakers
from worker.fallback.fallbacks import Fallbacks
from worker.fallback.service import Services
from worker.fallback.stand_in import StandIn
from worker.fallback.turns import FallbackTurns, Turns


class FallbackParts:
    """`turns` with fallbacks behind them, for which agents to stand in, and connections to be closed."""

    def __init__(self, redis: Redis, turns: Turns, settings: Settings) -> None:
        fallbacks = in_order(settings.fallbacks)
        breakers = Breakers(redis, settings)
        self.services = Services()
        self.fallbacks = Fallbacks(fallbacks, self.services, breakers)
        self.turns = FallbackTurns(turns, self.fallbacks, breakers, settings)
        self.stand_in = StandIn(fallbacks)
