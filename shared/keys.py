"""API keys: what one is, what it may, and where they are kept. Of a key's secret only its hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.scripts import Scripts
from shared.settings import ClientRight

Scope = Literal["run", "read", "admin", "metrics"]
"""`run`: run agents, and make, change and delete what belongs to that; `read`: look; `admin`: keys, usage,
metrics; `metrics`: these alone."""

_PREFIX = "bl_"
_SHOWN = 4
_LONG_ENOUGH = 24
"""A shorter secret, brought along by an import, shows nothing of itself."""
_TRIES = 20

Count = Annotated[int, Meta(ge=1)]
Dollars = Annotated[float, Meta(gt=0)]


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the runs of one key may be; `None` is no limit.

    A minute begins with its first run; a day begins at 00:00 UTC, a month on the 1st. `concurrent_runs` are
    accepted and not over, `queued_runs` those of them that no worker has begun.
    """

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_day: Count | None = None
    requests_per_month: Count | None = None
    concurrent_runs: Count | None = None
    queued_runs: Count | None = None
    usd_per_day: Dollars | None = None
    usd_per_month: Dollars | None = None


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody decides on a key. `agents` `None` are all; `may` has the words of `client_may`.

    `tenant` empty: the key has one of its own. `expires_in_s` is in seconds from now. `cache`: whether its
    requests are answered from the cache unless they say otherwise; `None`: the setting.
    """

    name: Annotated[str, Meta(max_length=200)] = ""
    tenant: Annotated[str, Meta(max_length=200)] = ""
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = ("run", "read")
    agents: tuple[str, ...] | None = None
    may: tuple[ClientRight, ...] = ()
    limits: Limits = Limits()
    expires_in_s: Annotated[float, Meta(gt=0)] | None = None
    cache: bool | None = None


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as it is kept. Times are in seconds since the epoch, by Redis's clock; 0 is never.

    After a rotation the older secret (`old_hash`) is good until `old_until`.
    """

    id: str
    name: str
    tenant: str
    hash: str
    scopes: tuple[Scope, ...]
    created: int
    agents: tuple[str, ...] | None = None
    may: tuple[ClientRight, ...] = ()
    limits: Limits = Limits()
    shown: str = ""
    expires: int = 0
    revoked: int = 0
    old_hash: str = ""
    old_until: int = 0
    is_imported: bool = False
    cache: bool | None = None

    def is_good(self, digest: str, now_s: float) -> bool:
        """Whether the secret with this hash opens anything now."""
        if self.revoked or (self.expires and now_s >= self.expires):
            return False
        return digest == self.hash or (digest == self.old_hash and now_s < self.old_until)


class UnknownKeyError(Exception):
    """There is no key of this id, or it is revoked and can no longer change."""


def new_secret() -> str:
    """A secret of 32 random bytes."""
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """The hash (hex) a secret is known by. It is random, so that a fast hash gives nothing away."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


class KeyStore:
    """Keys in Redis. Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def find(self, digest: str) -> tuple[KeyRecord | None, float]:
        """The key that a secret's hash belongs to, whatever its state, and Redis's time in seconds.

        Notes that it was used.
        """
        names = [keys.KEY_HASHES, keys.KEYS, keys.KEY_USES]
        now_ms, record = await self._scripts("key_find", names, [digest, keys.KEY_USES_TTL_MS])
        return (_decoder.decode(record) if record else None), now_ms / 1000

    async def exist(self) -> bool:
        """Whether a key was ever made; a revoked one counts, so that nothing opens with the last one gone."""
        found: Any = self._redis.hlen(keys.KEYS)
        return bool(await found)

    async def create(self, grant: Grant) -> tuple[KeyRecord, str]:
        """Make a key; gives it with its secret, which is shown this once."""
        secret = new_secret()
        record = _granted(grant, f"key_{secrets.token_hex(12)}", secret, int(await self._now_s()))
        await self._put(None, b"", record)
        return record, secret

    async def import_(self, secret: str, grant: Grant) -> KeyRecord:
        """Make a key of a secret that exists already. Done again, it only brings name and limits up to date.

        A revoked key stays revoked, and a rotated one keeps its new secret.
        """
        key_id = f"key_{digest_of('import:' + secret)[:24]}"
        for _ in range(_TRIES):
            known, data = await self._get(key_id)
            if known is None:
                record = _granted(grant, key_id, secret, int(await self._now_s()))
                record = msgspec.structs.replace(record, is_imported=True)
            else:
                record = msgspec.structs.replace(
                    known, name=grant.name, scopes=grant.scopes, agents=grant.agents, limits=grant.limits
                )
            if record == known or await self._put(known, data, record):
                return record
        raise UnknownKeyError(key_id)

    async def get(self, key_id: str) -> KeyRecord:
        """A key by its id; raises `UnknownKeyError`."""
        record, _ = await self._get(key_id)
        if record is None:
            raise UnknownKeyError(key_id)
        return record

    async def good(self, key_id: str) -> KeyRecord | None:
        """A key by its id; `None` when there is none, or it opens nothing any more."""
        record, _ = await self._get(key_id)
        return record if record is not None and record.is_good(record.hash, await self._now_s()) else None

    async def all(self) -> list[KeyRecord]:
        """All keys, the oldest first; revoked ones too."""
        found: Any = self._redis.hvals(keys.KEYS)
        return sorted((_decoder.decode(each) for each in await found), key=lambda key: (key.created, key.id))

    async def uses(self) -> dict[str, int]:
        """When each key was last used, in seconds since the epoch, to a second."""
        found: Any = self._redis.hgetall(keys.KEY_USES)
        return {name.decode(): int(ms) // 1000 for name, ms in (await found).items()}

    async def rotate(self, key_id: str, *, overlap_s: float) -> tuple[KeyRecord, str]:
        """Give a key a new secret; the old one is good for `overlap_s` more. Raises `UnknownKeyError`."""
        secret = new_secret()
        now_s = await self._now_s()
        record = await self._change(
            key_id,
            lambda old: msgspec.structs.replace(
                old,
                hash=digest_of(secret),
                shown=_shown(secret),
                old_hash=old.hash if overlap_s > 0 else "",
                old_until=int(now_s + overlap_s) if overlap_s > 0 else 0,
            ),
        )
        return record, secret

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key: no replica takes it a second later. Raises `UnknownKeyError`."""
        now_s = int(await self._now_s())
        return await self._change(
            key_id, lambda old: msgspec.structs.replace(old, revoked=now_s, old_hash="", old_until=0)
        )

    async def _change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        for _ in range(_TRIES):
            old, data = await self._get(key_id)
            if old is None or old.revoked:
                break
            new = change(old)
            if await self._put(old, data, new):
                return new
        raise UnknownKeyError(key_id)

    async def _put(self, old: KeyRecord | None, data: bytes, new: KeyRecord) -> bool:
        """Store a record in place of `old`, which stood as `data`; `False` when somebody else was quicker."""
        before = {old.hash, old.old_hash} - {""} if old is not None else set[str]()
        after = set[str]() if new.revoked else {new.hash, new.old_hash} - {""}
        return bool(
            await self._scripts(
                "key_put",
                [keys.KEYS, keys.KEY_HASHES],
                [
                    new.id,
                    data,
                    _encoder.encode(new),
                    keys.KEY_CHANGES,
                    len(before - after),
                    *sorted(before - after),
                    *sorted(after),
                ],
            )
        )

    async def _get(self, key_id: str) -> tuple[KeyRecord | None, bytes]:
        found: Any = self._redis.hget(keys.KEYS, key_id)
        data = await found
        return (_decoder.decode(data) if data else None), data or b""

    async def _now_s(self) -> float:
        seconds, micros = await self._redis.time()
        return float(seconds) + float(micros) / 1e6


def _granted(grant: Grant, key_id: str, secret: str, now_s: int) -> KeyRecord:
    return KeyRecord(
        id=key_id,
        name=grant.name,
        tenant=grant.tenant or key_id,
        hash=digest_of(secret),
        scopes=grant.scopes,
        created=now_s,
        agents=grant.agents,
        may=grant.may,
        cache=grant.cache,
        limits=grant.limits,
        shown=_shown(secret),
        expires=now_s + max(1, int(grant.expires_in_s)) if grant.expires_in_s is not None else 0,
    )


def _shown(secret: str) -> str:
    """So much of a secret that its owner knows it again: how it begins, and its last four."""
    if len(secret) < _LONG_ENOUGH:
        return "…"
    head = len(_PREFIX) + _SHOWN if secret.startswith(_PREFIX) else _SHOWN
    return f"{secret[:head]}…{secret[-_SHOWN:]}"


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KeyRecord)
