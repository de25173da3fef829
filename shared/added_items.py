"""Items that clients add to a conversation, until its next turn tells them to the model."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Literal

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.conversations import Record
from shared.scripts import Scripts

MOST_ITEMS = 100
MOST_BYTES = 1024 * 1024

ItemRole = Literal["user", "assistant", "system", "developer"]


class TooManyItemsError(Exception):
    """A conversation would have more added items, or more in them, than it may."""


class AddedItem(msgspec.Struct, frozen=True):
    """A message that no turn has told the model yet; `texts` are its parts."""

    id: str
    role: ItemRole
    texts: tuple[str, ...]


class Rewrite(msgspec.Struct, frozen=True, kw_only=True):
    """The session that a conversation is put into, and the entry it ends with: both empty for none.

    `ends_as_before` says that its last answer is still the same, open calls included; `waiting` are items of
    the old one that now wait for the next turn, before those that wait already.
    """

    session: str
    head: str
    ends_as_before: bool = False
    waiting: Sequence[AddedItem] = ()


class AddedItems:
    """Added items in Redis, each kept for `ttl_s` seconds after the last was added or a turn took some.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, redis: Redis, ttl_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._ttl_ms = max(1, int(ttl_s * 1000))

    async def add(self, tenant: str, conversation_id: str, items: Sequence[AddedItem]) -> bool:
        """Add `items` in their order, all or none; `False` when there is no such conversation (any more).

        Raises `TooManyItemsError` beyond `MOST_ITEMS` or `MOST_BYTES` of what waits.
        """
        answer = await self._scripts(
            "items_add",
            [
                keys.conversation(tenant, conversation_id),
                keys.conversations(tenant),
                keys.added_items(tenant, conversation_id),
            ],
            [self._ttl_ms, conversation_id, MOST_ITEMS, MOST_BYTES, *map(_line, items)],
        )
        if answer < 0:
            raise TooManyItemsError
        return bool(answer)

    async def waiting(self, tenant: str, conversation_id: str) -> list[AddedItem]:
        """What waits for the conversation's next turn, oldest first."""
        lines = await self._lines(tenant, conversation_id)
        return [_decode(line.partition(b" ")[2]) for line in lines]

    async def remove(self, tenant: str, conversation_id: str, item_id: str) -> bool:
        """Take back an item that waits; `False` when there is none of this id (any more)."""
        start = f"{item_id} ".encode()
        for line in await self._lines(tenant, conversation_id):
            if line.startswith(start):
                async with self._redis.pipeline() as pipe:
                    pipe.lrem(keys.added_items(tenant, conversation_id), 1, line.decode())
                    (count,) = await pipe.execute()
                return bool(count)
        return False

    async def rewrite(self, tenant: str, record: Record, now: Rewrite) -> bool:
        """Put a conversation into another session; `False` when it is no longer at the place of `record`."""
        # Nobody has said it so: no history leads there, and no process holds it.
        prefix = hashlib.sha256(f"rewritten {now.session}".encode()).hexdigest() if now.session else ""
        names = [
            keys.conversation(tenant, record.id),
            keys.conversations(tenant),
            keys.session(tenant, now.session),
            keys.sessions(tenant),
            keys.sessions(tenant, keys.place(record.agent, record.project)),
            keys.added_items(tenant, record.id),
        ]
        place = [record.session, record.head, now.session, now.head, prefix]
        args: list[str | int] = [self._ttl_ms, record.id, *place, int(now.ends_as_before)]
        args += map(_line, now.waiting)
        return bool(await self._scripts("items_rewrite", names, [*args]))

    async def _lines(self, tenant: str, conversation_id: str) -> list[bytes]:
        async with self._redis.pipeline() as pipe:
            pipe.lrange(keys.added_items(tenant, conversation_id), 0, -1)
            (lines,) = await pipe.execute()
        return list(lines)


def new_item_id() -> str:
    """An id for an item, in OpenAI's form."""
    return f"msg_{secrets.token_hex(16)}"


def _line(item: AddedItem) -> str:
    return f"{item.id} {msgspec.json.encode(item).decode()}"


_decode = msgspec.json.Decoder(AddedItem).decode
