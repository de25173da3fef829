"""One subscriber connection that heals: it reconnects, subscribes again, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.outage import Outage
from shared.redis_wire import RedisWire

_PING_S = 5.0
_RECONNECT_S = 0.1
_LONGEST_RECONNECT_S = 1.0

_log = structlog.get_logger(__name__)


class Subscriber:
    """Calls `on_message(channel, data)` for what is published; `run` must be running.

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
        self._channels: set[str] = set()
        self._wire: RedisWire | None = None
        self._was_heard = True

    def add(self, channels: Iterable[str]) -> None:
        """Subscribe; while Redis is away this is only noted, and done when it is back."""
        names = tuple(channels)
        self._channels.update(names)
        if self._wire is not None:
            self._wire.send([("SUBSCRIBE", *names)])

    def remove(self, channel: str) -> None:
        """Unsubscribe."""
        self._channels.discard(channel)
        if self._wire is not None:
            self._wire.send([("UNSUBSCRIBE", channel)])

    async def run(self) -> None:
        """Stay connected until cancelled."""
        delay_s = _RECONNECT_S
        away = Outage("subscriber_not_connected")
        while True:
            try:
                wire = await RedisWire.open(self._redis, self._on_reply)
                away.is_over()
                delay_s = _RECONNECT_S
                await self._stay(wire)
            except (RedisError, OSError) as error:
                away.goes_on(error)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_RECONNECT_S)

    async def _stay(self, wire: RedisWire) -> None:
        """Be subscribed until the wire is lost; a half-open one looks like silence, so it is pinged."""
        try:
            self._wire = wire
            if self._channels:
                wire.send([("SUBSCRIBE", *self._channels)])
            self._was_heard = True
            while self._was_heard and not wire.lost.is_set():
                self._was_heard = False
                wire.send([("PING",)])
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PING_S):
                        await wire.lost.wait()
            _log.warning("subscriber_lost")
        finally:
            self._wire = None
            wire.close()

    def _on_reply(self, reply: Any) -> None:
        self._was_heard = True
        if not isinstance(reply, list):  # the answer to a ping before the first subscription
            return
        if reply[0] == b"message":
            self._on_message(reply[1], reply[2])
        elif reply[0] == b"subscribe":
            self._on_subscribed(reply[1])
