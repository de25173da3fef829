"""The API in this process, on a real Valkey: what tests of keys ask."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from litestar import Litestar
from litestar.exceptions import LitestarDeprecationWarning
from redis.asyncio import Redis

from api.app import create_app
from api.front import fronted
from api.health import Drain
from shared.registry import AgentRecord, RegistryStore, WorkerRecord
from shared.settings import Settings

AGENTS = ("agent", "other")


def make_app(url: str, **settings: Any) -> Litestar:
    """An API for the Valkey at `url`; settings are those of `shared.settings`."""
    with warnings.catch_warnings():  # Litestar 3 will want dependencies marked
        warnings.simplefilter("ignore", LitestarDeprecationWarning)
        return create_app(settings_of(url, **settings), Drain())


def settings_of(url: str, **settings: Any) -> Settings:
    return Settings(redis_url=url, **{"data_dir": Path("/nonexistent"), **settings})


@asynccontextmanager
async def serving(url: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """The same, asked without a network."""
    app = make_app(url, **settings)
    transport = httpx.ASGITransport(fronted(app, settings_of(url, **settings)))  # type: ignore[arg-type]
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def announce(redis: Redis, agents: tuple[str, ...] = AGENTS, projects: tuple[str, ...] = ()) -> None:
    """As if a worker that serves `agents` lived; for the length of its lease."""
    worker = WorkerRecord(
        id="w", host="h", agents=agents, slots=1, busy=0, cli_version="1", projects=projects
    )
    await RegistryStore(redis).announce(worker, [AgentRecord(name, "", 0) for name in agents])


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def error_of(answer: httpx.Response) -> dict[str, Any]:
    return dict(answer.json()["error"])
