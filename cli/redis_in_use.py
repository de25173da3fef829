"""The Redis that a command works on: what the API uses, be it a server of its own."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cli.errors import CommandError
from shared.settings_sources import load_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from shared.settings import Settings

RedisUrl = Annotated[str | None, Parameter(help="Redis or Valkey that the API uses.")]
Data = Annotated[
    str | None, Parameter(help="Directory for private data, where `backline up` keeps its own Redis.")
]


def on_redis(
    redis_url: str | None, data: str | None, work: Callable[[Redis, Settings], Awaitable[None]]
) -> None:
    """Do `work` on the Redis that the settings lead to. Raises CommandError when it does not answer."""
    settings = load_settings({"redis_url": redis_url, "data_dir": data}, os.environ, Path.cwd()).settings
    asyncio.run(_work(settings, work))


async def _work(settings: Settings, work: Callable[[Redis, Settings], Awaitable[None]]) -> None:
    from redis.exceptions import RedisError  # noqa: PLC0415 - imported here so that --help is quick

    from shared.redis import connect  # noqa: PLC0415

    async with redis_in_use(settings) as url:
        redis = connect(url)
        try:
            await work(redis, settings)
        except (RedisError, OSError) as error:
            raise CommandError(f"Redis does not answer: {error}") from error
        finally:
            await redis.aclose()


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
