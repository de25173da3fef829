"""The Lua scripts: each one is a step that happens whole or not at all. Their headers say what and why."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from shared import redis_keys as keys
from shared.redis import ReplicatedRedis

_NAMES = (
    "account",
    "announce",
    "batch_announce",
    "batch_cancel",
    "batch_claim",
    "batch_commit",
    "batch_create",
    "batch_record",
    "batch_renew",
    "batch_step",
    "begin",
    "breaker",
    "bury",
    "cache_drop",
    "cache_get",
    "cache_put",
    "claim",
    "dead_retry",
    "finish",
    "items_add",
    "items_rewrite",
    "key_find",
    "key_put",
    "leave",
    "object_put",
    "pause",
    "place",
    "project_create",
    "project_delete",
    "project_keep",
    "project_settle",
    "queue_look",
    "record_create",
    "record_page",
    "record_update",
    "registry",
    "release",
    "renew",
    "replay",
    "resume",
    "run_page",
    "sampler_turn",
    "session_delete",
    "session_save",
    "stop",
    "submit",
    "webhook_delete",
    "webhook_note",
    "webhook_put",
    "webhook_take",
)
_LASTING = frozenset(
    {
        *("submit", "replay", "begin", "finish", "bury", "stop", "dead_retry"),
        *("batch_create", "batch_cancel", "object_put", "record_create", "record_update"),
        *("items_add", "items_rewrite", "key_put", "project_create", "webhook_put"),
    }
)
"""After these somebody is told that something is kept, or a run's agent acts: replicas should have it."""
_COMMON = ("common", "queues", "accounts", "repeats", "webhooks")
_NAMED = "".join(
    f"local {word} = '{name}'\n"
    for word, name in {
        "RUN": keys.run(""),
        "LEASE": keys.lease(""),
        "RETRY": keys.retry(""),
        "TURN": keys.TURN,
        "SERVED": keys.SERVED,
        "BATCH": keys.batch_queue(""),
    }.items()
)
"""Names that the common scripts need."""

Value = str | bytes | int


class Scripts:
    """The scripts of `shared/lua`, bound to one Redis client and loaded by hash at first use."""

    def __init__(self, redis: Redis) -> None:
        folder = files("shared") / "lua"
        common = "".join((folder / f"{name}.lua").read_text("utf-8") for name in _COMMON)
        self._scripts: dict[str, AsyncScript] = {
            name: redis.register_script(_NAMED + common + (folder / f"{name}.lua").read_text("utf-8"))
            for name in _NAMES
        }
        self._redis = redis
        self._replicas = redis.replicas if isinstance(redis, ReplicatedRedis) else None

    async def __call__(self, name: str, names: Sequence[str], args: Sequence[Value]) -> Any:
        """Run script `name`; raises `redis.RedisError` when Redis does not answer.

        What lasts is in the replicas that are asked for when this returns, or that is logged.
        """
        if self._replicas is not None and name in _LASTING:
            return await self._replicas.run(self._redis, self._scripts[name], names, args)
        return await self._scripts[name](keys=list(names), args=list(args))
