"""Files that clients upload and download: bytes in a storage of blobs, and a record of each in Redis.

The record makes the file: it is written last and goes first, by itself when its time is over. A blob without
a record is swept up.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.batches import redis_keys as batch_keys
from shared.blob_bucket import BlobBucket
from shared.blob_directory import BlobDirectory
from shared.blobs import Blob, BlobError, Blobs
from shared.conversations import Order
from shared.repeats import KeyReusedError, Repeat, RunGoneError
from shared.settings import Settings
from shared.stored import ObjectStore, Stored

LONGEST_TTL_S = 30 * 24 * 3600.0
"""What a client may ask for at most."""
_FILE = "file-"
_BATCH = "batch_"
_SWEEP_S = 3600.0
_ORPHAN_S = 24 * 3600.0
"""A blob may be without its record for a moment only; but a Redis without its data is to be noticed first."""

_log = structlog.get_logger(__name__)


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file; `ttl_s` counts, in seconds, from its creation."""

    filename: str
    purpose: str
    size: int
    ttl_s: float


StoredFile = Stored[FileRecord]


def blobs_of(settings: Settings) -> Blobs:
    """The storage that the settings name; nothing is opened yet."""
    if settings.files_url is not None:
        return BlobBucket(settings.files_url)
    return BlobDirectory(settings.data_dir / "files")


def new_file_id() -> str:
    """An id that nobody guesses."""
    return f"{_FILE}{secrets.token_hex(16)}"


class Files:
    """Tenants' files. Methods raise `redis.RedisError` and `shared.blobs.BlobError`."""

    def __init__(self, redis: Redis, blobs: Blobs, *, ttl_s: float) -> None:
        self._redis = redis
        self._records = ObjectStore(redis, "file", FileRecord, max(ttl_s, LONGEST_TTL_S))
        self._blobs = blobs
        self._ttl_s = ttl_s

    async def store(self, tenant: str, file_id: str, pieces: AsyncIterable[bytes]) -> int:
        """Store a file's bytes, all or none; gives their number. It is no file before it has a record."""
        return await self._blobs.write(tenant, file_id, pieces)

    async def add(
        self,
        tenant: str,
        file_id: str,
        *,
        filename: str,
        purpose: str,
        size: int,
        ttl_s: float | None = None,
        repeat: Repeat | None = None,
    ) -> StoredFile:
        """Make what was stored a file, for `ttl_s` seconds; doing so again puts it in place of itself.

        A request that was made before gives the file of then, which has another id, and these bytes are
        deleted; so are they when it raises `KeyReusedError`, or `RunGoneError`: that file is no longer there.
        After `redis.RedisError` nobody knows whether they are a file: they are left to the sweep.
        """
        ttl_s = self._ttl_s if ttl_s is None else ttl_s
        record = FileRecord(filename=filename, purpose=purpose, size=size, ttl_s=ttl_s)
        try:
            given = await self._records.put_once(tenant, file_id, record, repeat, ttl_s=ttl_s)
        except KeyReusedError:
            await self.drop(tenant, file_id)
            raise
        if given != file_id:
            await self.drop(tenant, file_id)
        stored = await self._records.get(tenant, given)
        if stored is None and given != file_id:
            raise RunGoneError
        return stored or StoredFile(file_id, 0, record)

    async def get(self, tenant: str, file_id: str) -> StoredFile | None:
        """A file's record; `None` when the tenant has no such file (any more)."""
        return await self._records.get(tenant, file_id)

    def all(self, tenant: str, *, after: str, order: Order) -> AsyncIterator[StoredFile]:
        """The tenant's files by age; raises `UnknownPlaceError`."""
        return self._records.all(tenant, after=after, order=order)

    def read(self, tenant: str, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes in pieces; raises `BlobGoneError`."""
        return self._blobs.read(tenant, file_id)

    async def delete(self, tenant: str, file_id: str) -> bool:
        """Delete a file; `False` when there was none. What has been begun to be read is read to its end."""
        is_deleted = await self._records.delete(tenant, file_id)
        if is_deleted:
            await self._blobs.delete(tenant, file_id)
        return is_deleted

    async def drop(self, tenant: str, file_id: str) -> None:
        """Delete bytes that did not become a file."""
        await self._blobs.delete(tenant, file_id)

    async def trouble(self) -> str:
        """Why nothing can be stored now, in words for clients; empty when it can, or nobody knows."""
        return await self._blobs.trouble()

    async def sweep_forever(self) -> None:
        """Delete the bytes of files that are no more, now and then, until cancelled."""
        while True:
            try:
                await self.sweep()
            except (RedisError, BlobError, OSError) as error:
                _log.warning("files_not_swept", error=str(error))
            await asyncio.sleep(_SWEEP_S)

    async def sweep(self, *, orphan_s: float = _ORPHAN_S) -> None:
        """Delete blobs of at least `orphan_s` seconds that belong to no file."""
        async for blob in self._blobs.all():
            if blob.age_s >= orphan_s and not await self._redis.exists(_record_of(blob)):
                await self._blobs.discard(blob)


def _record_of(blob: Blob) -> str:
    """The name in Redis of what a blob belongs to: a file, or the gathered results of a batch."""
    if blob.name.startswith(_BATCH):
        return batch_keys.parts(blob.owner, blob.name.partition(".")[0])
    return keys.owned("file", blob.owner, blob.name)
