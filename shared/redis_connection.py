"""Connections to Redis that say in one way that they are gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError


def plain_spoken(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """`kind`, but what means that the connection is of no use any more raises `redis.ConnectionError` alone.

    After a fail-over the old primary may go on as a replica: it keeps its connections and refuses each write,
    for as long as nobody connects anew to where the primary is now.

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

        async def read_response(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return await super().read_response(*args, **kwargs)
            except ResponseError as error:
                # Redis 6.2 says it of a script in the words of that script's error.
                if not isinstance(error, ReadOnlyError) and "-READONLY " not in str(error):
                    raise
                await self.disconnect(nowait=True)
                raise RedisConnectionError("This Redis has become a replica.") from error

    return Plain
