"""Blobs in a directory of this host, or of one that all hosts of the API mount."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

from shared.blobs import PIECE, Blob, BlobError, BlobFullError, BlobGoneError
from shared.disk import FULL, trouble_at
from shared.redis_keys import owner

_INCOMING = ".incoming"
_UNFINISHED_S = 24 * 3600.0
"""An upload that has not grown for this long is nobody's any more."""


class BlobDirectory:
    """Blobs as files `root/OWNER/NAME`, readable by this user alone.

    A file gets its name when it is whole and on the disk, by a rename within `root`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, tenant: str, name: str, pieces: AsyncIterable[bytes]) -> int:
        """See `shared.blobs.Blobs`."""
        folder = self._root / owner(tenant)
        incoming = self._root / _INCOMING / secrets.token_hex(16)
        try:
            file = await asyncio.to_thread(_open, incoming, folder)
            try:
                size = await _copy(pieces, file)
                await asyncio.to_thread(os.fsync, file)
            finally:
                os.close(file)
            await asyncio.to_thread(_place, incoming, folder / name)
        except OSError as error:
            if error.errno in FULL:
                raise BlobFullError(f"Nothing can be written below {self._root}: {error}") from error
            raise BlobError(f"A file cannot be written below {self._root}: {error}") from error
        finally:
            with suppress(OSError):
                incoming.unlink(missing_ok=True)
        return size

    async def read(self, tenant: str, name: str) -> AsyncGenerator[bytes, None]:
        """See `shared.blobs.Blobs`."""
        path = self._root / owner(tenant) / name
        try:
            file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise BlobGoneError(f"There is no {name}.") from error
        except OSError as error:
            raise BlobError(f"{path} cannot be read: {error}") from error
        try:
            while piece := await asyncio.to_thread(os.read, file, PIECE):
                yield piece
        except OSError as error:
            raise BlobError(f"{path} cannot be read: {error}") from error
        finally:
            os.close(file)

    async def delete(self, tenant: str, name: str) -> None:
        """See `shared.blobs.Blobs`."""
        await self.discard(Blob(owner(tenant), name, 0.0))

    async def discard(self, blob: Blob) -> None:
        """See `shared.blobs.Blobs`."""
        path = self._root / blob.owner / blob.name
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except OSError as error:
            raise BlobError(f"{path} cannot be deleted: {error}") from error

    async def trouble(self) -> str:
        """See `shared.blobs.Blobs`; a quota is met only when something is written."""
        return await asyncio.to_thread(trouble_at, self._root)

    async def all(self) -> AsyncIterator[Blob]:
        """See `shared.blobs.Blobs`."""
        for blob in await asyncio.to_thread(lambda: list(self._scan())):
            yield blob

    def _scan(self) -> Iterator[Blob]:
        now = time.time()
        for folder in _entries(self._root):
            for path in _entries(folder):
                with suppress(FileNotFoundError):
                    age_s = now - path.stat().st_mtime
                    if folder.name != _INCOMING:
                        yield Blob(folder.name, path.name, age_s)
                    elif age_s > _UNFINISHED_S:
                        path.unlink()


def _entries(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir())
    return []


def _open(path: Path, *folders: Path) -> int:
    for folder in (path.parent, *folders):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


async def _copy(pieces: AsyncIterable[bytes], file: int) -> int:
    size = 0
    async for piece in pieces:
        await asyncio.to_thread(_write_all, file, piece)
        size += len(piece)
    return size


def _write_all(file: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(file, rest) :]


def _place(incoming: Path, path: Path) -> None:
    incoming.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name too shall outlive a power cut
    finally:
        os.close(folder)
