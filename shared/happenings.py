"""What operators should see without reading logs: workers come and go, runs fail or move, keys change."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys

Kind = Literal["worker_came", "worker_left", "run_failed", "run_moved", "key_made", "key_revoked", "drain"]
_MOST = 500
_TTL_MS = 7 * 24 * 3_600_000


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: to what (an id), and in words. `id` sorts by time, `t` is in ms."""

    kind: Kind
    subject: str
    said: str
    id: str = ""
    t: int = 0


class Happenings:
    """The newest happenings in Redis. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def note(self, *happenings: Happening) -> None:
        """Add to the list; the oldest beyond a bound go."""
        if not happenings:
            return
        async with self._redis.pipeline(transaction=False) as pipe:
            for each in happenings:
                pipe.xadd(keys.HAPPENINGS, {b"h": _encoder.encode(each)}, maxlen=_MOST)
            pipe.pexpire(keys.HAPPENINGS, _TTL_MS)
            await pipe.execute()

    async def newest(self, count: int = 50) -> list[Happening]:
        """The newest first."""
        found: Any = await self._redis.xrevrange(keys.HAPPENINGS, count=count)
        return [
            msgspec.structs.replace(
                _decoder.decode(fields[b"h"]), id=entry.decode(), t=int(entry.partition(b"-")[0])
            )
            for entry, fields in found
        ]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Happening)
