"""Objects that a client asked to keep, such as completions: JSON documents of a tenant, by their age."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.conversations import Order, UnknownPlaceError
from shared.repeats import KeyReusedError, Repeat
from shared.scripts import Scripts, Value

Kind = Literal["completion", "file", "response", "stream"]
T = TypeVar("T", bound=msgspec.Struct)

_CHUNK = 50
_LEVEL = 1


class Stored(msgspec.Struct, Generic[T], frozen=True):
    """An object as it was put; `created_ms` is Redis's clock."""

    id: str
    created_ms: int
    value: T


class StoredPage(msgspec.Struct, Generic[T], frozen=True):
    """Objects in the order asked for, and whether there are more."""

    objects: list[Stored[T]]
    has_more: bool


class ObjectStore(Generic[T]):
    """A tenant's objects of one kind, each kept for `ttl_s` seconds after it was last put.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, redis: Redis, kind: Kind, type_: type[T], ttl_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._kind = kind
        self._decoder = msgspec.json.Decoder(type_)
        self._ttl_ms = max(1, int(ttl_s * 1000))

    async def put(self, tenant: str, object_id: str, value: T, *, ttl_s: float | None = None) -> None:
        """Store an object, in place of an older one of the id; `ttl_s`, in seconds, is a shorter life."""
        await self._put(tenant, object_id, value, must_exist=False, ttl_s=ttl_s)

    async def put_once(
        self, tenant: str, object_id: str, value: T, repeat: Repeat | None, *, ttl_s: float | None = None
    ) -> str:
        """The same, if `repeat` was not made before; gives the id of what it stored then, else `object_id`.

        Raises `KeyReusedError`.
        """
        status, given = await self._put(
            tenant, object_id, value, must_exist=False, ttl_s=ttl_s, repeat=repeat
        )
        if status < 0:
            raise KeyReusedError
        return given

    async def replace(self, tenant: str, object_id: str, value: T, *, notice: bytes = b"") -> bool:
        """Put a new value in place of the old; `False` when the object is not there (any more).

        `notice` tells of its end (`Outbox.notice`); only the first is told.
        """
        status, _ = await self._put(tenant, object_id, value, must_exist=True, notice=notice)
        return bool(status)

    async def get(self, tenant: str, object_id: str) -> Stored[T] | None:
        """The object; `None` when the tenant has none of this id (any more)."""
        fields: Any = self._redis.hgetall(keys.stored(self._kind, tenant, object_id))
        return self._read(object_id, await fields)

    async def get_all(self, tenant: str, object_ids: Sequence[str]) -> list[Stored[T] | None]:
        """The objects of these ids, in their order, read at once."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for object_id in object_ids:
                pipe.hgetall(keys.stored(self._kind, tenant, object_id))
            found = await pipe.execute()
        return [self._read(object_id, fields) for object_id, fields in zip(object_ids, found, strict=True)]

    async def delete(self, tenant: str, object_id: str) -> bool:
        """Delete an object; `False` when it was not there."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.delete(keys.stored(self._kind, tenant, object_id))
            pipe.zrem(keys.stored_list(self._kind, tenant), object_id)
            deleted, _ = await pipe.execute()
        return bool(deleted)

    async def page(self, tenant: str, *, limit: int, after: str = "", order: Order = "desc") -> StoredPage[T]:
        """A page of the tenant's objects by age; raises `UnknownPlaceError`."""
        is_known, *rows = await self._scripts(
            "record_page",
            [keys.stored_list(self._kind, tenant)],
            [keys.stored(self._kind, tenant, ""), after, limit + 1, order, self._ttl_ms],
        )
        if not is_known:
            raise UnknownPlaceError(after)
        found = [
            self._read(object_id.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            for object_id, fields in zip(rows[::2], rows[1::2], strict=True)
        ]
        return StoredPage([one for one in found[:limit] if one is not None], len(found) > limit)

    async def all(self, tenant: str, *, after: str = "", order: Order = "desc") -> AsyncIterator[Stored[T]]:
        """All of the tenant's objects by age, read a few at a time; raises `UnknownPlaceError`."""
        while True:
            page = await self.page(tenant, limit=_CHUNK, after=after, order=order)
            for one in page.objects:
                yield one
            if not page.has_more:
                return
            after = page.objects[-1].id

    async def _put(
        self,
        tenant: str,
        object_id: str,
        value: T,
        *,
        must_exist: bool,
        ttl_s: float | None = None,
        notice: bytes = b"",
        repeat: Repeat | None = None,
    ) -> tuple[int, str]:
        own_ttl_ms = self._ttl_ms if ttl_s is None else min(self._ttl_ms, max(1, int(ttl_s * 1000)))
        names = [keys.stored(self._kind, tenant, object_id), keys.stored_list(self._kind, tenant)]
        names.append(repeat.name if repeat else "")
        body = zlib.compress(msgspec.json.encode(value), _LEVEL)
        args: list[Value] = [self._ttl_ms, object_id, int(must_exist), own_ttl_ms, notice]
        args += [repeat.kind, repeat.digest, repeat.ttl_ms] if repeat else ["", "", 0]
        status, given = await self._scripts("object_put", names, [*args, "body", body])
        return status, given.decode()

    def _read(self, object_id: str, fields: Mapping[bytes, bytes]) -> Stored[T] | None:
        if b"body" not in fields:
            return None
        value = self._decoder.decode(zlib.decompress(fields[b"body"]))
        return Stored(object_id, int(fields[b"created"]), value)
