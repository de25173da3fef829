"""Small questions asked of the servers that `up` starts or uses."""

from __future__ import annotations

import asyncio
import http.client
from typing import NamedTuple
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import RedisError

from cli.errors import CommandError

_REDIS_S = 5.0
_HTTP_S = 2.0


class Answer(NamedTuple):
    """An HTTP answer; status 0 when there was none."""

    status: int
    body: str


async def check_redis(url: str) -> None:
    """Raise CommandError unless the Redis at `url` answers a PING within 5 s."""
    try:
        async with asyncio.timeout(_REDIS_S), redis.asyncio.Redis.from_url(url) as client:
            await client.ping()
    except (RedisError, OSError, ValueError) as error:
        shown = url.rpartition("@")[2] if "@" in url else url  # what stands before the @ may be a password
        reason = str(error) or f"no answer within {_REDIS_S:.0f} s"
        raise CommandError(f"Cannot use the Redis at {shown}: {reason}") from error


async def get(url: str) -> Answer:
    """GET `url` of a server on this machine, within 2 s; never raises for what the server does."""
    return await asyncio.to_thread(_get, url)


async def needs_key(url: str) -> bool:
    """Whether the API at `url` wants a key."""
    return (await get(f"{url}/v1/models")).status == 401


def _get(url: str) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_HTTP_S)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, str(error))
    finally:
        connection.close()
