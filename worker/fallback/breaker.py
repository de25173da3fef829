"""Circuit breakers, one for each agent and each fallback, which all workers share in Redis.

| state | a run is let through | goes to |
| --- | --- | --- |
| closed | always | open, after so many failures in a window |
| open | never | half open, when its time is over |
| half open | one, the probe | closed or open, as the probe ends; another probe, when it is lost |
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Literal

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.scripts import Scripts
from shared.settings import Settings

_log = structlog.get_logger(__name__)

Outcome = Literal["good", "bad", "neither"]


class Way(Enum):
    """Whether a run may go there; the values are the script's."""

    SHUT = 0
    FREE = 1
    PROBE = 2
    """It may, to see whether it works again; how it ends must be noted."""


class Leave(msgspec.Struct, frozen=True):
    """What a breaker said to a run; `wait_s` is when a closed way is worth asking again, in seconds."""

    way: Way
    wait_s: float = 0.0


class Breakers:
    """Asks and tells the breakers. While Redis is away every way is free, and nothing is counted."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._limits = (
            settings.breaker_failures,
            int(settings.breaker_window_s * 1000),
            int(settings.breaker_open_s * 1000),
        )

    async def ask(self, name: str) -> Leave:
        """Whether a run may go where the breaker called `name` stands."""
        way, wait_ms = await self._say(name, "ask", 0)
        if Way(way) is Way.PROBE:
            _log.info("circuit_probed", circuit=name)
        return Leave(Way(way), wait_ms / 1000)

    async def note(self, name: str, leave: Leave, outcome: Outcome) -> None:
        """Say how a run ended that had this leave: `neither` says nothing of what it met."""
        is_probe = leave.way is Way.PROBE
        if outcome != "bad" and not is_probe:
            return
        change, _ = await self._say(name, outcome, int(is_probe))
        if change:
            _log.warning("circuit_opened" if change == 1 else "circuit_closed", circuit=name)

    async def open(self, names: Sequence[str]) -> set[str]:
        """Those of the breakers called `names` that are not closed; none while Redis is away."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hexists(keys.breaker(name), "until")
                answers = await pipe.execute()
        except (RedisError, OSError):
            return set()
        return {name for name, is_open in zip(names, answers, strict=True) if is_open}

    async def _say(self, name: str, word: str, is_probe: int) -> tuple[int, int]:
        try:
            first, second = await self._scripts(
                "breaker", [keys.breaker(name)], [word, is_probe, *self._limits]
            )
        except (RedisError, OSError) as error:
            _log.warning("circuit_unknown", circuit=name, error=str(error))
            return (Way.FREE.value if word == "ask" else 0), 0
        return int(first), int(second)
