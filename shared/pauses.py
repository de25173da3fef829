"""Pauses: while the model's service refuses some credentials, nobody starts runs with them."""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.scripts import Scripts

_MOST_JITTER = 250
"""Thousandths of a pause."""


class PauseStore:
    """Pauses in Redis. Every method raises `redis.RedisError` when Redis does not answer in time.

    `upstream` stands for the credentials, and tells nothing of them.
    """

    def __init__(self, redis: Redis) -> None:
        self._scripts = Scripts(redis)

    async def begin(self, upstream: str, asked_s: float, *, first_s: float, most_s: float) -> float:
        """A run was refused: start no more; gives for how long from now, in seconds.

        `asked_s` is what the model's service asked for, 0 for nothing. Else a first pause takes `first_s`,
        and each after a probe in vain twice the one before, up to `most_s`; all a little longer at random.
        """
        times = [int(seconds * 1000) for seconds in (asked_s, first_s, most_s)]
        jitter = secrets.randbelow(_MOST_JITTER)
        return float(await self._scripts("pause", [keys.pause(upstream)], [*times, jitter])) / 1000

    async def end(self, upstream: str, queue: str, place: str) -> None:
        """The model's service answers again: the workers of `place` hear of it, others find out."""
        await self._scripts("resume", [keys.pause(upstream), queue], [keys.doorbell(place)])
