"""The Redis that a command works on: what the API uses, be it a server of its own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.settings import Settings


@asynccontextmanager
async def redis_in_use(settings: Settings) -> AsyncIterator[str]:
    """The Redis of the settings; else the one of `backline up`, which runs or is started for a moment."""
    from cli.embedded_redis import embedded_redis  # noqa: PLC0415 - imported here so that --help is quick

    if settings.redis_url is not None:
        yield settings.redis_url
        return
    own = settings.data_dir.absolute() / "redis"
    if (socket := own / "redis.sock").is_socket() and await _answers(f"unix://{socket}"):
        yield f"unix://{socket}"
        return
    async with embedded_redis(settings.data_dir) as embedded:
        if await _directory_of(embedded.url) != own.resolve():
            raise CommandError("Another process uses the data; give the Redis it has with --redis-url.")
        yield embedded.url


async def _answers(url: str) -> bool:
    from cli.probe import check_redis  # noqa: PLC0415 - imported here so that --help is quick

    try:
        await check_redis(url)
    except CommandError:
        return False
    return True


async def _directory_of(url: str) -> Path:
    from redis.asyncio import Redis  # noqa: PLC0415 - imported here so that --help is quick

    async with Redis.from_url(url) as client:
        return Path((await client.config_get("dir"))["dir"])
