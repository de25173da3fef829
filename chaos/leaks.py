"""What should not be there any more: names in Redis, processes, directories, descriptors."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

import psutil
from redis.asyncio import Redis

from chaos.history import Gauge
from chaos.stand import Part, Stand
from shared import redis_keys as keys

_IDLE_S = 30.0
_POLL_S = 0.2
_HOLDING = ("backline:queue:*", keys.lease("*"), keys.job("*"), keys.retry("*"))
"""What holds a run that is not over."""
_BESIDE_QUEUES = (":taken", ":paused")
"""Notes about queues that lapse by themselves."""
_FOREVER = {keys.DATA_MARK, keys.KEYS, keys.KEY_HASHES}
"""What alone may have no end: it does not grow with what is asked."""
_STAYS = (
    *("run", "runs", "events", "repeat", "tries", "unattended", "dead", "dead-request"),
    *("agents", "usage", "series", "sampler", "first-tokens", "happenings", "data-mark", "turn", "served"),
    *("session", "sessions", "prefix", "transcript", "transcripts", "conversation", "conversations"),
    *("response", "responses", "batch", "batches", "open-batches", "file", "files"),
    *("stream", "streams", "keys", "key-hashes", "key-uses", "account", "passed", "queue"),
)
"""Classes of names that tell of what was, and lapse: nothing else may stand there in the end."""

Look = dict[str, tuple[int, int, int]]


async def left_when_idle(stand: Stand) -> list[str]:
    """What still holds a run when nobody asks any more: after a while, nothing."""
    left: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_IDLE_S), stand.redis() as redis:
            while left := [name async for name in _held(redis)]:
                await asyncio.sleep(_POLL_S)
    return left


async def left_at_the_end(stand: Stand) -> list[str]:
    """End APIs and workers in order; what is there afterwards should not be."""
    left: list[str] = []
    for part in (*stand.apis, *stand.workers):
        part.send(signal.SIGTERM)
    for part in (*stand.apis, *stand.workers):
        code = await part.ended()
        if code not in {0, -signal.SIGTERM}:  # uvicorn, once it has ended in order, raises the signal again
            left.append(f"{part.name} exited with {code}")
    async with stand.redis() as redis:
        left += [name async for name in _held(redis)]
        left += [name async for name in _names(redis, keys.worker("*"))]
        async for name in _names(redis, "*"):
            if name not in _FOREVER and await redis.pttl(name) == -1:
                left.append(f"{name} has no end")
            if _class_of(name) not in _STAYS:
                left.append(f"{name} is of no class that stays")
    left += [f"process {process.pid} {process.name()}" for process in stand.agents_processes()]
    left += [f"directory {path}" for path in stand.root.glob("data*/scratch/*")]
    left += [f"temporary {path}" for path in stand.temporary.iterdir()]
    return left


def look(parts: Sequence[Part]) -> Look:
    """Descriptors, child processes and resident bytes of each part that runs."""
    seen: Look = {}
    for part in parts:
        with suppress(psutil.Error):
            process = psutil.Process(part.pid)
            seen[part.name] = process.num_fds(), len(process.children()), process.memory_info().rss
    return seen


def gauges(before: Look, after: Look) -> list[Gauge]:
    """Two looks at the same parts, beside each other."""
    return [
        Gauge(name, *((was, now) for was, now in zip(before[name], after[name], strict=True)))
        for name in before
        if name in after
    ]


async def _held(redis: Redis) -> AsyncIterator[str]:
    for pattern in _HOLDING:
        async for name in _names(redis, pattern):
            if not name.endswith(_BESIDE_QUEUES):
                yield name


async def _names(redis: Redis, pattern: str) -> AsyncIterator[str]:
    async for name in redis.scan_iter(pattern, count=1000):
        yield name.decode()


def _class_of(name: str) -> str:
    """`run` for `backline:run:…`; what is not Backline's stands for itself."""
    first, _, rest = name.partition(":")
    return rest.partition(":")[0] if first == "backline" else name
