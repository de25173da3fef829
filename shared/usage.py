"""What was used, by day, API key and agent. The script that ends a run counts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys

Group = Literal["day", "key", "agent"]
_MICRO = 1_000_000


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """Runs that have ended, and what they used: tokens, and USD as far as it is known."""

    requests: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class UsageRow(Used, frozen=True, kw_only=True):
    """The same of a day (UTC), a key and an agent; `None` for what rows were summed over.

    `key` is empty for runs that needed none.
    """

    day: str | None = None
    key: str | None = None
    agent: str | None = None


_FIELDS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "usd": "cost_usd",
}


class UsageStore:
    """Usage in Redis, kept for 400 days. Methods raise `redis.RedisError` when Redis does not answer."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def rows(self, first: date, last: date) -> list[UsageRow]:
        """All rows of the days from `first` to `last`, both included."""
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        async with self._redis.pipeline(transaction=False) as pipe:
            for day in days:
                pipe.hgetall(keys.usage(day.isoformat()))
            answers = await pipe.execute()
        return [
            row for day, fields in zip(days, answers, strict=True) for row in _rows(day.isoformat(), fields)
        ]

    async def total(self) -> Used:
        """Everything so far."""
        found: Any = self._redis.hgetall(keys.usage("total"))
        return Used(**_named({name.decode(): int(value) for name, value in (await found).items()}))

    async def by_agent(self) -> dict[str, Used]:
        """Everything so far, by agent."""
        found: Any = self._redis.hgetall(keys.usage("agents"))
        counted: dict[str, dict[str, int]] = {}
        for name, value in (await found).items():
            agent, what = name.decode().split(" ", 1)
            counted.setdefault(agent, {})[what] = int(value)
        return {agent: Used(**_named(each)) for agent, each in sorted(counted.items())}


def summed(rows: Iterable[UsageRow], by: Sequence[Group]) -> list[UsageRow]:
    """Rows added up to one for each combination of what `by` names."""
    sums: dict[tuple[str | None, ...], dict[str, float]] = {}
    for row in rows:
        place = tuple(getattr(row, name) for name in by)
        sum_ = sums.setdefault(place, dict.fromkeys(Used.__struct_fields__, 0))
        for name in Used.__struct_fields__:
            sum_[name] += getattr(row, name)
    sum_rows: list[UsageRow] = []
    for place in sorted(sums, key=str):
        fields: dict[str, Any] = {**_rounded(sums[place]), **dict(zip(map(str, by), place, strict=True))}
        sum_rows.append(UsageRow(**fields))
    return sum_rows


def _rows(day: str, fields: dict[bytes, bytes]) -> list[UsageRow]:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for name, value in fields.items():
        key, agent, what = name.decode().split(" ", 2)
        found.setdefault((key, agent), {})[what] = int(value)
    return [
        UsageRow(day=day, key=key, agent=agent, **_named(counted))
        for (key, agent), counted in sorted(found.items())
    ]


def _named(counted: dict[str, int]) -> dict[str, Any]:
    named: dict[str, Any] = {_FIELDS.get(name, name): value for name, value in counted.items()}
    named["cost_usd"] = named.get("cost_usd", 0) / _MICRO
    return {name: value for name, value in named.items() if name in Used.__struct_fields__}


def _rounded(sums: dict[str, float]) -> dict[str, float]:
    return {**sums, "cost_usd": round(sums["cost_usd"], len(str(_MICRO)) - 1)}
