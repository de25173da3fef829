"""How every process of Backline connects to Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from arq.connections import ArqRedis
from msgspec import msgpack
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shared.redis_connection import plain_spoken
from shared.replicas import Replicas

_CONNECT_TIMEOUT_S = 5.0
_ANSWER_TIMEOUT_S = 5.0
_TURN_S = 10.0
"""How long a burst of requests may wait for a connection that is free: a busy API is not a dead Redis."""
_RETRIES = 3


_T = TypeVar("_T")
OnError = Callable[[str], None]
"""Told the name of the error of each try that fails."""


class ReplicatedRedis(ArqRedis):
    """A client whose lasting writes wait for replicas, if `replicas` is set (`shared.scripts`)."""

    replicas: Replicas | None = None


def connect(
    url: str,
    *,
    max_connections: int = 64,
    on_error: OnError | None = None,
    replicas: Replicas | None = None,
) -> ReplicatedRedis:
    """A client for `url` (`redis://`, `rediss://`, `unix://`); nothing is sent until it is first used.

    Every wait is bounded in seconds; a lost connection is tried again a few times with jitter, because a
    restart of Redis should cost a pause, not an error. ARQ's jobs are MessagePack, never pickle.
    `replicas` are to have what the outside is told is kept.
    """
    pool = _ToldPool.from_url(
        url,
        max_connections=max_connections,
        timeout=_TURN_S,
        socket_connect_timeout=_CONNECT_TIMEOUT_S,
        socket_timeout=_ANSWER_TIMEOUT_S,
        # No health check: redis-py (5.3) makes it while it connects too, and when it fails connects anew from
        # within, without a bound. Behind a proxy that accepts and resets, a worker died of the recursion.
        retry=_ToldRetry(on_error),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )
    pool.on_error = on_error
    client = ReplicatedRedis(pool, job_serializer=msgpack.encode, job_deserializer=msgpack.decode)
    client.replicas = replicas
    pool.connection_class = plain_spoken(pool.connection_class)
    client.auto_close_connection_pool = True  # `aclose` leaves a pool that was passed in open (redis-py 5.3)
    return client


class _ToldPool(BlockingConnectionPool):
    """Tells of a connection that was not to be had."""

    on_error: OnError | None = None

    async def ensure_connection(self, connection: Any) -> None:
        try:
            await super().ensure_connection(connection)
        except (RedisError, OSError) as error:
            if self.on_error is not None:
                self.on_error(type(error).__name__)
            raise


class _ToldRetry(Retry):
    """Tells of each try of a command that failed."""

    def __init__(self, on_error: OnError | None) -> None:
        super().__init__(FullJitterBackoff(cap=0.5, base=0.05), _RETRIES)
        self._on_error = on_error

    def __deepcopy__(self, _: Any) -> _ToldRetry:
        """Each connection takes a copy; there is nothing in it that changes."""
        return self

    async def call_with_retry(self, do: Callable[[], Awaitable[_T]], fail: Callable[[RedisError], Any]) -> _T:
        on_error = self._on_error
        if on_error is None:
            return await super().call_with_retry(do, fail)

        def failed(error: RedisError) -> Any:
            on_error(type(error).__name__)
            return fail(error)

        return await super().call_with_retry(do, failed)
