"""Results out of Redis into blobs, and blobs into a batch's files, so that no process holds them all."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

from shared.batches.output import UNFINISHED, one, split, unfinished
from shared.batches.records import Batch, BatchStatus, Item, Lease
from shared.batches.store import BatchStore, LeaseLostError
from shared.blobs import BlobError, BlobGoneError, Blobs
from shared.files import Files, new_file_id
from shared.scripts import Value

_FINISHING = (BatchStatus.FINALIZING, BatchStatus.CANCELLING)


class Gatherer:
    """Gathers one batch's results; whatever it is interrupted in can be done again."""

    def __init__(self, store: BatchStore, files: Files, blobs: Blobs, lease: Lease) -> None:
        self._store = store
        self._files = files
        self._blobs = blobs
        self._lease = lease
        self._one_at_a_time = asyncio.Lock()

    def begin(self, end: BatchStatus) -> dict[str, Value]:
        """The fields that end the taking of results: from now on the files have their names."""
        return {"gathering": end.value, "output_id": new_file_id(), "error_id": new_file_id()}

    async def gather(self, *, beyond: int = 0) -> None:
        """Put the results that wait in Redis, if beyond that many bytes, into a blob for each file.

        A blob has a name that none ever had, so that one whose commit is refused disturbs nobody.
        """
        async with self._one_at_a_time:
            results = await self._store.results(self._lease)
            if sum(map(len, results.values())) <= beyond:
                return
            name = f"{self._lease.batch_id}.{secrets.token_hex(8)}"
            parts = {f"{name}.{kind}": lines for kind, lines in split(results).items() if lines}
            try:
                for part, lines in parts.items():
                    await self._blobs.write(self._lease.tenant, part, one(lines))
            except BlobError:
                await self._drop(parts)  # or each new try would leave more on a disk that is full
                raise
            await self._store.commit(self._lease, list(parts), results)

    async def finish(self, batch: Batch, items: AsyncIterator[Item]) -> None:
        """Write the files and end the batch; `items` are the lines of its input."""
        parts = await self._store.parts(self._lease)
        done = await self._store.done(self._lease)
        fields: dict[str, Value] = {"failed": batch.total - batch.completed}
        if await self._write(batch, batch.output_id, "output", self._joined(parts, "o")):
            fields["output_file_id"] = batch.output_id
        if await self._write(batch, batch.error_id, "error", self._errors(batch, parts, done, items)):
            fields["error_file_id"] = batch.error_id
        if not await self._store.step(self._lease, _FINISHING, BatchStatus(batch.gathering), fields):
            raise LeaseLostError
        await self._drop(parts)

    async def _drop(self, parts: Iterable[str]) -> None:
        for part in parts:
            with suppress(BlobError):  # it would be swept
                await self._blobs.delete(self._lease.tenant, part)

    async def _write(self, batch: Batch, file_id: str, what: str, pieces: AsyncIterator[bytes]) -> bool:
        """Write a file, unless there is nothing to be in it."""
        size = await self._files.store(batch.tenant, file_id, pieces)
        if not size:
            await self._files.drop(batch.tenant, file_id)
            return False
        await self._files.add(
            batch.tenant,
            file_id,
            filename=f"{batch.id}_{what}.jsonl",
            purpose="batch_output",
            size=size,
            ttl_s=batch.spec.output_ttl_s,
        )
        return True

    async def _joined(self, parts: list[str], kind: str) -> AsyncIterator[bytes]:
        for part in parts:
            if part.endswith(f".{kind}"):
                async for piece in self._blobs.read(self._lease.tenant, part):
                    yield piece

    async def _errors(
        self, batch: Batch, parts: list[str], done: bytes, items: AsyncIterator[Item]
    ) -> AsyncIterator[bytes]:
        async for piece in self._joined(parts, "e"):
            yield piece
        if batch.gathering in UNFINISHED:
            with suppress(BlobGoneError):  # the input was deleted: nobody knows what the lines were called
                async for item in items:
                    if not is_set(done, item.number):
                        yield unfinished(batch, item.number, item.custom_id)


def is_set(bits: bytes, number: int) -> bool:
    """Whether a bit of Redis's bitmap is set."""
    place = number // 8
    return place < len(bits) and bool(bits[place] >> (7 - number % 8) & 1)
