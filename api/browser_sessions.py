"""Browsers that are logged in: a secret in a cookie, and in Redis by its hash the key it stands for.

A session is as good as the secret it was opened with: it ends with its key, with a rotation's overlap, with a
log-out, and by itself.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.keys import KeyRecord, KeyStore, UnknownKeyError, digest_of

COOKIE: Final = "backline_session"
LIFE_S: Final = 12 * 3600


class BrowserSession(msgspec.Struct, frozen=True):
    """Which key a browser logged in with, and the hash of the secret it gave."""

    key: str
    digest: str


class BrowserSessions:
    """Sessions in Redis. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis, store: KeyStore) -> None:
        self._redis = redis
        self._store = store

    async def begin(self, record: KeyRecord, secret: str) -> str:
        """Log a browser in that gave `secret`, of the key `record`; gives what its cookie is to hold."""
        cookie = new_cookie()
        session = BrowserSession(record.id, digest_of(secret))
        name = keys.browser_session(digest_of(cookie))
        await self._redis.set(name, msgspec.json.encode(session), ex=LIFE_S)
        return cookie

    async def find(self, cookie: str) -> KeyRecord | None:
        """The key that a cookie stands for; `None` when it stands for none (any more)."""
        found: Any = await self._redis.get(keys.browser_session(digest_of(cookie)))
        if found is None:
            return None
        session = _decoder.decode(found)
        try:
            record = await self._store.get(session.key)
        except UnknownKeyError:
            return None
        seconds, _ = await self._redis.time()
        return record if record.is_good(session.digest, float(seconds)) else None

    async def end(self, cookie: str) -> None:
        """Log a browser out."""
        await self._redis.delete(keys.browser_session(digest_of(cookie)))


def new_cookie() -> str:
    """What a cookie holds: 32 random bytes."""
    return secrets.token_urlsafe(32)


def token_of(cookie: str) -> str:
    """What a page of ours sends with every change; no other page knows it, for none can read the cookie."""
    return digest_of(f"csrf:{cookie}")


_decoder = msgspec.json.Decoder(BrowserSession)
