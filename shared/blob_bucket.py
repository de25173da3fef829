"""Blobs in a bucket of an S3-compatible object store, which every host of the API sees alike."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from shared.blobs import PIECE, Blob, BlobError, BlobGoneError
from shared.redis_keys import owner

_PART = 8 * 1024 * 1024
"""What is gathered before a part is sent: S3 takes parts of 5 MiB at least, and 10,000 of them."""
_AT_ONCE = 2


class BlobBucket:
    """Blobs as objects `PREFIX/OWNER/NAME` of the bucket in `url`, `s3://BUCKET/PREFIX`.

    The client reads credentials, region and endpoint from the usual `AWS_…` variables by itself. An object
    appears when its upload is completed, as S3 has it.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._prefix = parts.path.strip("/")
        self._store = S3Store(parts.netloc)

    async def write(self, tenant: str, name: str, pieces: AsyncIterable[bytes]) -> int:
        """See `shared.blobs.Blobs`."""
        size = 0
        try:
            # Not as a context: its exit would complete an upload that was broken off.
            writer = obstore.open_writer_async(
                self._store, self._path(owner(tenant), name), buffer_size=_PART, max_concurrency=_AT_ONCE
            )
            async for piece in pieces:
                await writer.write(piece)
                size += len(piece)
            await writer.close()
        except (BaseError, OSError) as error:
            raise BlobError(f"An object cannot be written: {error}") from error
        return size

    async def read(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        """See `shared.blobs.Blobs`."""
        try:
            found = await obstore.get_async(self._store, self._path(owner(tenant), name))
            async for piece in found.stream(min_chunk_size=PIECE):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise BlobGoneError(f"There is no {name}.") from error
        except (BaseError, OSError) as error:
            raise BlobError(f"An object cannot be read: {error}") from error

    async def delete(self, tenant: str, name: str) -> None:
        """See `shared.blobs.Blobs`."""
        await self.discard(Blob(owner(tenant), name, 0.0))

    async def discard(self, blob: Blob) -> None:
        """See `shared.blobs.Blobs`."""
        try:
            await obstore.delete_async(self._store, self._path(blob.owner, blob.name))
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise BlobError(f"An object cannot be deleted: {error}") from error

    async def trouble(self) -> str:
        """See `shared.blobs.Blobs`: what a bucket holds has no limit of its own."""
        return ""

    async def all(self) -> AsyncIterator[Blob]:
        """See `shared.blobs.Blobs`; uploads that were broken off are the bucket's own rules to remove."""
        now = time.time()
        try:
            async for found in obstore.list(self._store, prefix=self._prefix or None):
                for each in found:
                    path = PurePosixPath(each["path"])
                    yield Blob(path.parent.name, path.name, now - each["last_modified"].timestamp())
        except (BaseError, OSError) as error:
            raise BlobError(f"The bucket cannot be listed: {error}") from error

    def _path(self, owned_by: str, name: str) -> str:
        return "/".join(part for part in (self._prefix, owned_by, name) if part)
