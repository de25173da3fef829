"""Waiting until replicas of Redis have what the outside will be told is kept.

Redis copies to its replicas after it has answered, and who is promoted has no more than it was sent. `WAIT`
counts the replicas that have all that its own connection wrote, so it goes out behind the script that is to
be kept, on the same connection; when that breaks, both are sent again to whoever is the primary then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError

from shared import redis_keys as keys
from shared.settings import Settings

_log = structlog.get_logger(__name__)


class Replicas:
    """At least `count` replicas shall have a write; it is waited for them up to `wait_s` seconds.

    When fewer have it in time the write stands nonetheless: it cannot be taken back, and who was refused
    would have it done twice. `on_missed` counts it.
    """

    def __init__(self, count: int, wait_s: float, on_missed: Callable[[], None] = lambda: None) -> None:
        self._count = count
        self._wait_ms = max(1, int(wait_s * 1000))
        self._on_missed = on_missed

    async def run(
        self,
        redis: Redis,
        script: AsyncScript,
        names: Sequence[str],
        args: Sequence[str | bytes | int],
    ) -> Any:
        """Run a script and wait; raises `redis.RedisError` when Redis does not answer or the script fails."""
        answer, has_waited = await self._send(redis, script, names, args)
        if isinstance(answer, NoScriptError):  # a primary that has not met it
            await redis.script_load(script.script)
            answer, has_waited = await self._send(redis, script, names, args)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(has_waited, Exception):
            raise has_waited
        if has_waited < self._count:
            self._on_missed()
            _log.warning("replicas_missed", have_it=has_waited, wanted=self._count)
        return answer

    async def _send(
        self, redis: Redis, script: AsyncScript, names: Sequence[str], args: Sequence[str | bytes | int]
    ) -> Sequence[Any]:
        async with redis.pipeline(transaction=False) as pipe:
            pipe.evalsha(script.sha, len(names), *names, *args)  # type: ignore[arg-type]
            # A write in any case: behind a script that found its work done, `WAIT` would not wait.
            pipe.publish(keys.COPIED, b"")
            pipe.wait(self._count, self._wait_ms)
            answer, _, has_waited = await pipe.execute(raise_on_error=False)
        return answer, has_waited


def replicas_of(settings: Settings, on_missed: Callable[[], None]) -> Replicas | None:
    """Those that an operator asks for; `None` when none are."""
    if not settings.redis_replicas:
        return None
    return Replicas(settings.redis_replicas, settings.redis_replicas_wait_s, on_missed)
