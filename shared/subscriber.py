"""One subscriber connection that heals: it reconnects, subscribes again, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

_SILENCE_S = 5.0
_RECONNECT_S = 0.1
_ANCHOR = "backline:anchor"
"""A channel nobody publishes on: redis-py reads only from a connection that has subscribed to something."""

_log = structlog.get_logger(__name__)


class Subscriber:
    """Calls `on_message(channel, data)` for what is published, from one task.

    `on_subscribed(channel)` is called when Redis has confirmed a subscription; after a reconnect it is
    called again for every channel, and what was published in between has been missed.
    """

    def __init__(
        self,
        redis: Redis,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._redis = redis
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._channels: set[bytes] = set()
        self._pubsub: PubSub | None = None
        self._gone: set[bytes] = set()

    async def add(self, channels: Iterable[str]) -> None:
        """Subscribe; while Redis is away this is only noted, and done when it is back."""
        names = {channel.encode() for channel in channels}
        self._channels |= names
        self._gone -= names
        if self._pubsub is not None:
            try:
                await self._pubsub.subscribe(*names)
            except (RedisError, OSError) as error:
                _log.info("subscribe_delayed", error=str(error))

    def remove(self, channel: str) -> None:
        """Unsubscribe soon."""
        name = channel.encode()
        self._channels.discard(name)
        self._gone.add(name)

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            try:
                async with self._redis.pubsub() as pubsub:
                    await pubsub.subscribe(_ANCHOR, *self._channels)
                    self._gone.clear()
                    self._pubsub = pubsub
                    await self._read(pubsub)
            except (RedisError, OSError) as error:
                _log.warning("subscriber_lost", error=str(error))
            finally:
                self._pubsub = None
            await asyncio.sleep(_RECONNECT_S)

    async def _read(self, pubsub: PubSub) -> None:
        is_asked = False
        while True:
            message = await pubsub.get_message(timeout=_SILENCE_S)
            if message is None:
                if is_asked:  # a half-open connection looks like silence
                    raise RedisConnectionError("Redis did not answer the subscriber's ping.")
                is_asked = True
                await pubsub.ping()
            else:
                is_asked = False
                if message["type"] == "message":
                    self._on_message(message["channel"], message["data"])
                elif message["type"] == "subscribe":
                    self._on_subscribed(message["channel"])
            if self._gone:
                gone, self._gone = self._gone, set()
                await pubsub.unsubscribe(*gone)
