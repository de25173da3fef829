"""Bytes kept for tenants outside Redis: whole or not there at all, written and read piece by piece."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Protocol

import msgspec

PIECE = 256 * 1024
"""Bytes read at a time."""


class BlobError(Exception):
    """The storage does not do as it is asked; the message is for the operator's log."""


class BlobFullError(BlobError):
    """The storage takes nothing more for now: it is full, over a quota, or may only be read."""


class BlobGoneError(BlobError):
    """There is no blob of that name."""


class Blob(msgspec.Struct, frozen=True):
    """A blob as a listing shows it. `owner` is `shared.redis_keys.owner` of the tenant."""

    owner: str
    name: str
    age_s: float


class Blobs(Protocol):
    """Where blobs are. Names are of letters, digits, `-`, `_` and `.`; every method raises `BlobError`."""

    async def write(self, tenant: str, name: str, pieces: AsyncIterable[bytes]) -> int:
        """Store a blob, in place of an older one, when all of it has come; gives its bytes.

        What `pieces` raises is raised on, and nothing is stored then. Raises `BlobFullError`.
        """

    def read(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        """A blob's pieces, in order; raises `BlobGoneError` at the first when there is none."""

    async def delete(self, tenant: str, name: str) -> None:
        """Delete a blob, if it is there."""

    async def discard(self, blob: Blob) -> None:
        """The same for one of a listing."""

    async def trouble(self) -> str:
        """Why nothing can be written now, in words for clients; empty when it can, or nobody knows."""

    def all(self) -> AsyncIterator[Blob]:
        """All blobs of all tenants; what lies about unfinished is removed on the way when it is old."""
