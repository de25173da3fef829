"""Noticing that Redis has lost its data: a mark that was there is gone, or is another."""

from __future__ import annotations

import asyncio
import secrets

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys

_LOOK_S = 2.0

_log = structlog.get_logger(__name__)


class DataMark:
    """Looks for the mark as long as `run` runs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._mark: bytes | None = None
        self.lost_at: int | None = None
        """When it was last seen that they are gone, by Redis's clock (s); `None` if never."""

    async def run(self) -> None:
        """Look every two seconds until cancelled; while Redis is away nothing is known."""
        while True:
            try:
                await self.look()
            except (RedisError, OSError) as error:
                _log.debug("mark_not_read", error=str(error))
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Look once; a Redis without a mark gets one. Raises `redis.RedisError`."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(keys.DATA_MARK, secrets.token_hex(8), nx=True)
            pipe.get(keys.DATA_MARK)
            pipe.time()
            _, mark, (seconds, _) = await pipe.execute()
        if self._mark is not None and mark != self._mark:
            self.lost_at = seconds
            _log.error("redis_data_lost", hint="Runs, queues, sessions and keys are gone. Has it no AOF?")
        self._mark = mark
