"""A request that is made again: what it is known by, and the run that it finds."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from shared import redis_keys as keys

Kind = Literal["key", "first", "retry", "beside"]


class Repeat(msgspec.Struct, frozen=True):
    """How a request can be found again.

    `kind`: by an idempotency `key`; as a client's `first` try or a `retry`; or `beside` the first
    choice of such a request. `name` is what it is known by in Redis, `digest` what was asked.
    `ttl_s` is for how long, in seconds: of a key from its first use, of a try from the end of its run.
    """

    kind: Kind
    name: str
    digest: str
    ttl_s: float

    @property
    def is_keyed(self) -> bool:
        """Whether the client itself named the request."""
        return self.kind == "key"

    @property
    def ttl_ms(self) -> int:
        """The same in milliseconds."""
        return int(self.ttl_s * 1000)


class Found(msgspec.Struct, frozen=True):
    """The run that a request started when it was made before."""

    run_id: str
    created_ms: int
    agent: str
    conversation: str


class KeyReusedError(Exception):
    """An idempotency key was used before, for something else."""


class RunGoneError(Exception):
    """The run, batch or file that an idempotency key stands for is no longer kept."""


def by_key(scope: str, key: str, asked: bytes, ttl_s: float) -> Repeat:
    """A request with an idempotency key of `scope`'s: whose it is."""
    return Repeat("key", keys.repeat(_digest(scope, key)), _digest(asked), ttl_s)


def by_try(scope: str, asked: bytes, window_s: float, *, is_retry: bool) -> Repeat:
    """A request of a client that says how often it has tried."""
    digest = _digest(asked)
    return Repeat("retry" if is_retry else "first", keys.tries(_digest(scope, digest)), digest, window_s)


def beside(run_id: str, number: int) -> str:
    """The id of a further choice's run: whoever repeats the request comes upon the same."""
    return run_id[:-32] + hashlib.blake2b(f"{run_id}:{number}".encode(), digest_size=16).hexdigest()


def _digest(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()
