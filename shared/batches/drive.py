"""One batch on its way: validated, fed line by line, wound up, gathered into its files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Protocol

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.batches.gather import Gatherer, is_set
from shared.batches.input import RequestLine, Validated, lines_of, read_line, validate
from shared.batches.output import is_completed, result_of
from shared.batches.records import Batch, BatchStatus, Item, Lease, Outcome, Problem
from shared.batches.store import BatchStore, LeaseLostError, Standing
from shared.batches.window import Window
from shared.blobs import BlobError, BlobGoneError, Blobs
from shared.files import Files
from shared.scripts import Value

_RETRY_S = 1.0
_WIND_UP_S = 30.0
_GATHER_BYTES = 4 * 1024 * 1024
_VALIDATED = (
    (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS),
    (BatchStatus.CANCELLING, BatchStatus.CANCELLING),
)
_TO_VALIDATE = tuple(come_from for come_from, _ in _VALIDATED)
"""A batch that was cancelled this early is looked at all the same: its lines are to be named."""
_OPEN = (BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING)

_log = structlog.get_logger(__name__)


class TryAgainError(Exception):
    """A line could not be executed now, and nothing was begun; it may be again in `after_s` seconds."""

    def __init__(self, after_s: float = _RETRY_S) -> None:
        super().__init__(f"Again in {after_s:g} s.")
        self.after_s = after_s


class WithdrawnError(Exception):
    """A line's run was stopped, or is not to be begun; `outcome` is what a client would have had of it."""

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__("The line was withdrawn.")
        self.outcome = outcome


class Announce(Protocol):
    """Told of each run before it is begun."""

    async def __call__(self, run_id: str, agent: str) -> None:
        """Note the run; raises `WithdrawnError` when it is not to be begun."""


Execute = Callable[[Item, Announce], Awaitable[Outcome]]
"""A line into its answer; raises `TryAgainError`, or `WithdrawnError` when its run was stopped.

Done again for the same item, after a crash or not, it finds the runs that it had begun.
"""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch is moved with: where things are, how a line is executed, by endpoint, and the bounds.

    `capacity` tells how many lines to have under way, `stop` ends a run by its id and agent, `has_begun`
    tells whether there is a run of an id.
    """

    store: BatchStore
    files: Files
    blobs: Blobs
    endpoints: Mapping[str, Execute]
    capacity: Callable[[], Awaitable[int]]
    stop: Callable[[str, str], Awaitable[object]]
    has_begun: Callable[[str], Awaitable[bool]]
    most_line_bytes: int


class Drive:
    """Moves one batch on while its lease is held."""

    def __init__(self, parts: Parts, lease: Lease) -> None:
        self._parts = parts
        self._store = parts.store
        self._lease = lease
        self._closing = asyncio.Event()
        self._is_winding_up = False
        self._window: Window | None = None
        self._gatherer = Gatherer(parts.store, parts.files, parts.blobs, lease)

    def hear(self, standing: Standing) -> None:
        """Take note of what a renewal said."""
        if standing.is_closing:
            self._close()

    async def run(self) -> None:
        """Go on from wherever the batch is, to its end. Raises `LeaseLostError`, or as Redis and blobs do."""
        batch = await self._batch()
        self.hear(await self._store.renew(self._lease))
        if batch.status in _TO_VALIDATE and not batch.total:
            batch = await self._validate(batch)
        if batch.status in _OPEN and not batch.gathering:
            batch = await self._work(batch)
        if batch.gathering:
            await self._finish(batch)

    async def _batch(self) -> Batch:
        batch = await self._store.get(self._lease.tenant, self._lease.batch_id)
        if batch is None:
            raise LeaseLostError
        return batch

    async def _validate(self, batch: Batch) -> Batch:
        try:
            pieces = self._input(batch)
            found = await validate(pieces, batch.spec.endpoint, self._parts.most_line_bytes)
        except BlobGoneError:
            found = Validated(0, "", [_no_input(batch)])
        fields: dict[str, Value] = {"problems": msgspec.json.encode(found.problems)}
        if found.problems:
            await self._store.step(self._lease, _TO_VALIDATE, BatchStatus.FAILED, fields)
            return await self._batch()
        fields = {"total": found.total, "model": found.model}
        for come_from, go_to in _VALIDATED:
            if await self._store.step(self._lease, [come_from], go_to, fields):
                break
        return await self._batch()

    async def _work(self, batch: Batch) -> Batch:
        """Execute the lines; gives the batch when no more results are to come."""
        has_input = True
        if batch.status is BatchStatus.CANCELLING:
            self._closing.set()
        try:
            if not self._closing.is_set():
                await self._feed(batch, None)
        except BlobGoneError:  # deleted, or expired
            has_input = False
        try:
            if self._closing.is_set() or not has_input:
                await self._wind_up(batch)
        except BlobGoneError:
            has_input = False
        batch = await self._begin_gathering(has_input=has_input)
        while not batch.gathering:
            batch = await self._begin_gathering(has_input=has_input)
        return batch

    async def _begin_gathering(self, *, has_input: bool) -> Batch:
        """Take no more results. A cancel that comes in between makes another end of it: then try again."""
        batch = await self._batch()
        is_cancelled = batch.status is BatchStatus.CANCELLING
        is_done = batch.completed + batch.failed == batch.total
        end = BatchStatus.COMPLETED if is_done else BatchStatus.EXPIRED
        if is_cancelled:
            end = BatchStatus.CANCELLED
        elif not has_input:
            end = BatchStatus.FAILED
        go_to = BatchStatus.CANCELLING if is_cancelled else BatchStatus.FINALIZING
        fields = self._gatherer.begin(end)
        if end is BatchStatus.FAILED:
            fields["problems"] = msgspec.json.encode([_no_input(batch)])
        await self._store.step(self._lease, [batch.status], go_to, fields)
        return await self._batch()

    async def _feed(self, batch: Batch, only: Collection[int] | None) -> None:
        """Execute the lines that are not done, a few at a time; ends early when the batch is closing."""
        done, kept = await self._store.done(self._lease), await self._store.result_lines(self._lease)
        async with Window() as window:
            if not self._is_winding_up:
                self._window = window
                self._hear_closing()
            async for item in self._items(batch):
                if is_set(done, item.number) or item.number in kept:
                    continue
                if only is not None and item.number not in only:
                    continue
                size = len(item.body)
                if not await window.enter(size, await self._parts.capacity()):
                    break
                window.start(self._item(batch, item), size)
            await window.wait()

    def _close(self) -> None:
        self._closing.set()
        self._hear_closing()

    def _hear_closing(self) -> None:
        """End what is under way when the batch is closing; what it has begun is looked for again then."""
        if self._closing.is_set() and self._window is not None:
            self._window.close()

    async def _wind_up(self, batch: Batch) -> None:
        """Stop the runs under way, and take what they gave if they had ended."""
        self._is_winding_up = True
        flight = await self._store.flight(self._lease)
        for run_id, (_, agent) in flight.items():
            await self._parts.stop(run_id, agent)
        with suppress(TimeoutError):
            async with asyncio.timeout(_WIND_UP_S):
                await self._feed(batch, {line for line, _ in flight.values()})

    async def _item(self, batch: Batch, item: Item) -> None:
        runs: list[str] = []

        async def announce(run_id: str, agent: str) -> None:
            if self._is_winding_up and not await self._parts.has_begun(run_id):
                raise WithdrawnError
            if not await self._store.announce(self._lease, run_id, item.number, agent):
                self._close()
                raise WithdrawnError
            runs.append(run_id)

        while True:
            try:
                outcome = await self._parts.endpoints[batch.spec.endpoint](item, announce)
                break
            except WithdrawnError as stopped:
                if self._is_winding_up or stopped.outcome is None:
                    return
                outcome = stopped.outcome
                break
            except TryAgainError as error:
                if self._is_winding_up:
                    return
                await asyncio.sleep(error.after_s)
            except (RedisError, OSError) as error:
                _log.warning("batch_line_delayed", line=item.number, error=str(error))
                await asyncio.sleep(_RETRY_S)
        await self._note(item, outcome, runs)

    async def _note(self, item: Item, outcome: Outcome, runs: list[str]) -> None:
        while True:
            try:
                waiting = await self._store.record(
                    self._lease,
                    item.number,
                    result_of(item, outcome),
                    is_completed=is_completed(outcome),
                    usage=outcome.usage,
                    runs=runs,
                )
                if waiting > _GATHER_BYTES:
                    await self._gatherer.gather(beyond=_GATHER_BYTES)
                return
            except (RedisError, BlobError, OSError) as error:
                _log.warning("batch_result_delayed", line=item.number, error=str(error))
                await asyncio.sleep(_RETRY_S)

    async def _finish(self, batch: Batch) -> None:
        await self._gatherer.gather()
        await self._gatherer.finish(batch, self._items(batch))

    async def _items(self, batch: Batch) -> AsyncIterator[Item]:
        async for number, line in lines_of(self._input(batch), self._parts.most_line_bytes):
            request = read_line(line, number, batch.spec.endpoint)
            if isinstance(request, RequestLine):
                yield Item(
                    tenant=batch.tenant,
                    batch_id=batch.id,
                    created_ms=batch.created_ms,
                    number=number,
                    custom_id=request.custom_id,
                    body=bytes(request.body),
                    key=batch.spec.key,
                )

    async def _input(self, batch: Batch) -> AsyncIterator[bytes]:
        stored = await self._parts.files.get(batch.tenant, batch.spec.input_file_id)
        if stored is None or stored.value.purpose != "batch":
            raise BlobGoneError("There is no such file.")
        async for piece in self._parts.files.read(batch.tenant, stored.id):
            yield piece


def _no_input(batch: Batch) -> Problem:
    said = f"Cannot find file {batch.spec.input_file_id}, or its purpose is not 'batch'."
    return Problem("invalid_request", said, "input_file_id")
