"""Keys as a replica knows them: read from Redis at most once a second each, and at once after a change."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.key_import import Imported
from shared.keys import KeyRecord, KeyStore, digest_of
from shared.subscriber import Subscriber

_FRESH_S = 0.9
"""Beyond it a key is read again: a revocation holds within a second, although its message be lost."""
_MOST_KEPT = 10_000
_RETRY_S = 1.0

_log = structlog.get_logger(__name__)


class _Known(NamedTuple):
    record: KeyRecord
    read_at: float
    epoch: int


class Keyring:
    """Finds keys by their secrets; `run` must be running: it hears of changes."""

    def __init__(self, redis: Redis, store: KeyStore, imports: Sequence[Imported]) -> None:
        self._store = store
        self._imports = list(imports)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._epoch = 0
        self._has_keys = bool(imports)
        self._looked_at = -_FRESH_S
        self._subscriber = Subscriber(redis, lambda _, __: self._forget(), lambda _: self._forget())
        self._subscriber.add([keys.KEY_CHANGES])

    async def run(self) -> None:
        """Hear of changes until cancelled."""
        await self._subscriber.run()

    async def find(self, secret: str) -> KeyRecord | None:
        """The key that this secret opens; `None` for one that is unknown, revoked or lapsed."""
        digest, began, epoch = digest_of(secret), time.monotonic(), self._epoch
        known = self._known.get(digest)
        if known is not None and known.epoch == epoch and began - known.read_at < _FRESH_S:
            return known.record
        record, now_s = await self._store.find(digest)
        if record is None or not record.is_good(digest, now_s):
            self._known.pop(digest, None)
            return None
        self._known[digest] = _Known(record, began, epoch)
        self._known.move_to_end(digest)
        if len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)
        return record

    def has_met(self, secret: str) -> bool:
        """Whether this secret was good when it was last looked at; without a look."""
        return digest_of(secret) in self._known

    async def has_keys(self) -> bool:
        """Whether there are keys. Once there were, there are: a Redis that lost them opens nothing."""
        if not self._has_keys and time.monotonic() - self._looked_at >= _FRESH_S:
            began = time.monotonic()
            self._has_keys = await self._store.exist()
            self._looked_at = began
        return self._has_keys

    def _forget(self) -> None:
        self._epoch += 1
        self._looked_at = -_FRESH_S

    async def take_over(self) -> None:
        """Store the imported keys, over again while Redis is away."""
        while self._imports:
            try:
                for secret, grant in self._imports:
                    await self._store.import_(secret, grant)
                _log.info("keys_imported", count=len(self._imports))
                self._imports.clear()
            except (RedisError, OSError) as error:
                _log.warning("key_import_delayed", error=str(error))
                await asyncio.sleep(_RETRY_S)
