"""Connections to Redis that say in one way that they are gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError


def plain_spoken(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """`kind`, but sending over a connection that was just lost raises `redis.ConnectionError` alone.

    uvloop (0.22) raises a bare `RuntimeError` for a transport that is closed, where asyncio drops the bytes;
    redis-py (5.3) passes it on, and nobody takes it for a lost connection. Seen: a worker that died of it.
    """

    class Plain(kind):  # type: ignore[misc,valid-type]
        async def send_packed_command(
            self, command: bytes | str | Iterable[bytes], check_health: bool = True
        ) -> Any:
            try:
                return await super().send_packed_command(command, check_health)
            except RuntimeError as error:
                raise RedisConnectionError("The connection was lost.") from error

    return Plain
