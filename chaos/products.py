"""What a stand is made of beside Valkey and the model: Backline, or the plain gateway to compare it with."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import msgspec


class Place(msgspec.Struct, frozen=True):
    """Where a process finds the others and puts its own data."""

    redis_url: str
    model_url: str
    data: Path
    agent: Path


class Product(msgspec.Struct, frozen=True):
    """How the APIs and the workers of a product are started and known to be ready."""

    api: Callable[[int], Sequence[str]]
    """Module and arguments for a port."""
    worker: Callable[[Place], Sequence[str]]
    environ: Callable[[Place], Mapping[str, str]]
    sees: Callable[[Mapping[str, object], int], bool]
    """Whether what `/ready` says is that so many workers are there."""

    async def is_ready(self, http: httpx.AsyncClient, url: str, workers: int) -> bool:
        """Whether an API is ready and sees so many workers."""
        with suppress(httpx.HTTPError, ValueError):
            answer = await http.get(f"{url}/ready")
            return answer.status_code == 200 and self.sees(answer.json(), workers)
        return False


def backline(settings: Mapping[str, object]) -> Product:
    """Backline with these settings."""

    def environ(place: Place) -> dict[str, str]:
        given = {
            "redis_url": place.redis_url,
            "data_dir": place.data,
            "sandbox": "none",
            "allow_root": "true",
            "auth": "off",
            "log_format": "json",
            **settings,
        }
        return {f"BACKLINE_{name.upper()}": str(value) for name, value in given.items()}

    return Product(
        api=lambda port: ["cli.main", "api", "--port", str(port)],
        worker=lambda place: ["cli.main", "worker", "--agent", str(place.agent)],
        environ=environ,
        sees=lambda said, workers: said.get("workers") == workers,
    )


def plain(claude: str, slots: int) -> Product:
    """ARQ as it comes. It does not know how many workers there are."""

    def environ(place: Place) -> dict[str, str]:
        home = place.data / "home"
        home.mkdir(parents=True, exist_ok=True)
        (home / ".claude.json").write_text(json.dumps({"hasCompletedOnboarding": True}))
        return {
            "REDIS_URL": place.redis_url,
            "AGENT": str(place.agent),
            "CLAUDE": claude,
            "CLAUDE_CONFIG_DIR": str(home),
            "SLOTS": str(slots),
        }

    return Product(
        api=lambda port: ["chaos.plain.api", "--port", str(port)],
        worker=lambda _: ["chaos.plain.worker"],
        environ=environ,
        sees=lambda said, _: said.get("status") == "ready",
    )
