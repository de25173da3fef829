"""What stands before Redis may accept and reset: that is an outage like any other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.exceptions import RedisError

from shared.redis import connect
from shared.redis_wire import RedisWire

_MOST_S = 20


@asynccontextmanager
async def resetting() -> AsyncIterator[str]:
    """The URL of a proxy whose Redis is away: each connection is accepted, heard once, and reset."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_connection_that_is_reset_again_and_again_is_an_error_of_redis() -> None:
    async with resetting() as url:
        redis = connect(url)
        async with asyncio.timeout(_MOST_S):
            with pytest.raises((RedisError, OSError)):
                await redis.ping()
            with pytest.raises((RedisError, OSError)):
                await RedisWire.open(redis, lambda _: None)
        await redis.aclose()


async def test_sending_over_a_connection_just_lost_is_an_error_of_redis_too() -> None:
    """On uvloop it is a bare `RuntimeError` at first, of which a worker died."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.strip() in {b"CLIENT", b"client"}:
                writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server, asyncio.timeout(_MOST_S):
        redis = connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        connection = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        await connection.connect()
        connection._writer.transport.abort()
        await asyncio.sleep(0.05)
        with pytest.raises((RedisError, OSError)):
            await connection.send_command("PING")
        await connection.disconnect()
        wire = await RedisWire.open(redis, lambda _: None)
        wire.close()
        wire.send([("PING",)])
        await wire.lost.wait()
        wire.send([("PING",)])
        await redis.aclose()
