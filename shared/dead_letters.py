"""Runs that were started again and again without an end: kept with their request, for an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.conversations import UnknownPlaceError
from shared.run_index import RunAbout, about_in
from shared.runs import RunRequest, decode_request
from shared.scripts import Scripts

_CHUNK = 50


class UnreadableLetterError(Exception):
    """The letter's request is not one that this version can read."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead run. `starts` turns were begun for it by `workers`; `stderr` is what its CLI wrote last.

    Times are Redis's clock, in ms.
    """

    id: str
    reason: str
    agent: str
    tenant: str
    key: str
    created_ms: int
    buried_ms: int
    starts: int
    workers: tuple[str, ...]
    about: RunAbout
    stderr: str


class DeadLetters:
    """The dead letters. Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis, ttl_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._ttl_ms = max(1, int(ttl_s * 1000))

    async def all(self, *, reason: str = "", agent: str = "", after: str = "") -> AsyncIterator[DeadLetter]:
        """Letters of this reason and agent, the newest first, behind `after`; raises `UnknownPlaceError`."""
        while True:
            is_known, *rows = await self._scripts(
                "record_page", [keys.DEAD], [keys.dead(""), after, _CHUNK, "desc", self._ttl_ms]
            )
            if not is_known:
                raise UnknownPlaceError(after)
            for letter_id, fields in zip(rows[::2], rows[1::2], strict=True):
                after = letter_id.decode()
                letter = _read(after, dict(zip(fields[::2], fields[1::2], strict=True)))
                if reason in {"", letter.reason} and agent in {"", letter.agent}:
                    yield letter
            if len(rows) < 2 * _CHUNK:
                return

    async def get(self, letter_id: str) -> DeadLetter | None:
        """The letter; `None` when there is none of this id (any more)."""
        fields: Any = self._redis.hgetall(keys.dead(letter_id))
        found = await fields
        return _read(letter_id, found) if b"reason" in found else None

    async def request_of(self, letter_id: str) -> RunRequest | None:
        """What the run was asked; `None` when that is gone. Raises `UnreadableLetterError`."""
        data = await self._redis.get(keys.dead_request(letter_id))
        return None if data is None else _decoded(data)

    async def take_up(self, letter_id: str, run_id: str) -> tuple[str, RunRequest] | None:
        """The id for the run that is to take up a letter, `run_id` unless it has one, and its request.

        `None` when there is no such letter (any more). Raises `UnreadableLetterError`.
        """
        names = [keys.dead(letter_id), keys.dead_request(letter_id)]
        answer = await self._scripts("dead_retry", names, [run_id])
        if not answer:
            return None
        request = msgspec.structs.replace(_decoded(answer[1]), retry_of=letter_id)
        return answer[0].decode(), request

    async def discard(self, letter_id: str) -> bool:
        """Forget a letter; `False` when it was not there."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.unlink(keys.dead(letter_id), keys.dead_request(letter_id))
            pipe.zrem(keys.DEAD, letter_id)
            gone, _ = await pipe.execute()
        return bool(gone)


def _decoded(data: bytes) -> RunRequest:
    try:
        return decode_request(data)
    except (msgspec.MsgspecError, TypeError) as error:
        raise UnreadableLetterError from error


def _read(letter_id: str, fields: Mapping[bytes, bytes]) -> DeadLetter:
    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    return DeadLetter(
        id=letter_id,
        reason=text(b"reason"),
        agent=text(b"agent"),
        tenant=text(b"tenant"),
        key=text(b"key"),
        created_ms=int(fields.get(b"created") or 0),
        buried_ms=int(fields.get(b"buried") or 0),
        starts=int(fields.get(b"starts") or 0),
        workers=tuple(text(b"workers").split()),
        about=about_in(fields.get(b"about", b"")),
        stderr=text(b"stderr"),
    )
