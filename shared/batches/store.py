"""Batches in Redis: each method is one step. What a coordinator does is fenced by the epoch of its lease."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.batches import redis_keys as batch_keys
from shared.batches.records import Batch, BatchSpec, BatchStatus, BatchUsage, Lease, read_batch
from shared.conversations import Order, UnknownPlaceError
from shared.repeats import KeyReusedError, Repeat, RunGoneError
from shared.scripts import Scripts, Value
from shared.webhooks.outbox import Outbox

_RENEWED = 1


class LeaseLostError(Exception):
    """Another coordinator has the batch, or it is over: nothing more is to be done here."""


class Standing(msgspec.Struct, frozen=True):
    """What a coordinator hears when it renews; `is_over_time` says that the batch has expired."""

    status: BatchStatus
    is_over_time: bool

    @property
    def is_closing(self) -> bool:
        """Whether no more lines are to be begun."""
        return self.is_over_time or self.status is BatchStatus.CANCELLING


class BatchStore:
    """Every method raises `redis.RedisError`; those that take a lease raise `LeaseLostError`."""

    def __init__(self, redis: Redis, outbox: Outbox, *, retention_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._outbox = outbox
        self._retention_ms = int(retention_s * 1000)

    async def create(
        self, tenant: str, spec: BatchSpec, *, window_s: float, repeat: Repeat | None = None
    ) -> tuple[Batch, bool]:
        """Accept a batch, to be done within `window_s` seconds; and whether it is a new one.

        A request that was made before gives the batch of then; raises `KeyReusedError`, and `RunGoneError`
        when that batch is no longer kept.
        """
        batch_id, owner = f"batch_{secrets.token_hex(16)}", keys.owner(tenant)
        given, known = await self._scripts(
            "batch_create",
            [
                batch_keys.record(owner, batch_id),
                batch_keys.records(owner),
                batch_keys.OPEN,
                repeat.name if repeat else keys.repeat(""),
            ],
            [
                batch_keys.TTL_MS,
                batch_id,
                Lease(owner, batch_id, tenant, 0).member,
                int(window_s * 1000),
                *((repeat.kind, repeat.digest, repeat.ttl_ms) if repeat else ("", "", 0)),
                "spec",
                msgspec.json.encode(spec),
            ],
        )
        if given < 0:
            raise KeyReusedError
        batch = await self.get(tenant, known.decode())
        if batch is None:
            raise RunGoneError
        return batch, bool(given)

    async def get(self, tenant: str, batch_id: str) -> Batch | None:
        """A tenant's batch; `None` when there is none of this id (any more)."""
        fields: Any = self._redis.hgetall(batch_keys.record(keys.owner(tenant), batch_id))
        found = await fields
        return read_batch(tenant, batch_id, found) if found else None

    async def page(
        self, tenant: str, *, limit: int, after: str, order: Order = "desc"
    ) -> tuple[list[Batch], bool]:
        """A page of the tenant's batches by age, and whether there are more; raises `UnknownPlaceError`."""
        owner = keys.owner(tenant)
        is_known, *rows = await self._scripts(
            "record_page",
            [batch_keys.records(owner)],
            [batch_keys.record(owner, ""), after, limit + 1, order, batch_keys.TTL_MS],
        )
        if not is_known:
            raise UnknownPlaceError(after)
        found = [
            read_batch(tenant, batch_id.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            for batch_id, fields in zip(rows[::2], rows[1::2], strict=True)
        ]
        return found[:limit], len(found) > limit

    async def cancel(self, tenant: str, batch_id: str) -> bool | None:
        """Ask for a batch's end; `False` when it is too late for that, `None` when there is none."""
        answer, _ = await self._scripts("batch_cancel", [batch_keys.record(keys.owner(tenant), batch_id)], [])
        return None if answer < 0 else answer == 1

    async def claim(self, most: int) -> list[Lease]:
        """Take up to `most` batches that nobody sees to."""
        answer = await self._scripts(
            "batch_claim",
            [batch_keys.OPEN],
            [keys.LEASE_MS, most, batch_keys.record("", "").removesuffix(":")],
        )
        leases: list[Lease] = []
        for member, epoch in zip(answer[::2], answer[1::2], strict=True):
            place, _, tenant = member.decode().partition("/")
            owner, _, batch_id = place.partition(":")
            leases.append(Lease(owner, batch_id, tenant, epoch))
        return leases

    async def renew(self, lease: Lease) -> Standing:
        """Keep a batch for the length of the lease, and hear where it stands."""
        answer = await self._renew(lease, keys.LEASE_MS)
        if answer[0] != _RENEWED:
            raise LeaseLostError
        return Standing(BatchStatus(answer[1].decode()), answer[2] >= answer[3])

    async def release(self, lease: Lease) -> None:
        """Give a batch back, if it is still ours: another coordinator may take it at once."""
        await self._renew(lease, 0)

    async def _renew(self, lease: Lease, lease_ms: int) -> Any:
        names = [batch_keys.record(lease.owner, lease.batch_id), batch_keys.OPEN]
        return await self._scripts("batch_renew", names, [lease.member, lease.epoch, lease_ms])

    async def step(
        self,
        lease: Lease,
        come_from: Iterable[BatchStatus],
        go_to: BatchStatus,
        fields: Mapping[str, Value] | None = None,
    ) -> bool:
        """Move a batch on; `False` when it was not where it should be: cancelled meanwhile.

        Its end is told to webhooks in the same step.
        """
        names = [batch_keys.record(lease.owner, lease.batch_id), batch_keys.OPEN, *_work_keys(lease)]
        flat = [value for pair in (fields or {}).items() for value in pair]
        statuses = f",{','.join(come_from)},"
        notice = b""
        if go_to.is_terminal:
            notice = self._outbox.notice(lease.owner, f"batch.{go_to}", lease.batch_id)
        args: list[Value] = [lease.epoch, lease.member, statuses, go_to, notice, *flat]
        return bool(await self._scripts("batch_step", names, args))

    async def announce(self, lease: Lease, run_id: str, line: int, agent: str) -> bool:
        """Note that a run may be begun for a line; `False` when it is too late to begin one."""
        names = [
            batch_keys.record(lease.owner, lease.batch_id),
            batch_keys.flight(lease.owner, lease.batch_id),
        ]
        args: list[Value] = [lease.epoch, run_id, f"{line} {agent}", batch_keys.TTL_MS]
        said = await self._scripts("batch_announce", names, args)
        if said < 0:
            raise LeaseLostError
        return bool(said)

    async def flight(self, lease: Lease) -> dict[str, tuple[int, str]]:
        """Runs that may be under way, with their line and agent."""
        found: Any = self._redis.hgetall(batch_keys.flight(lease.owner, lease.batch_id))
        places = {run_id.decode(): value.decode().partition(" ") for run_id, value in (await found).items()}
        return {run_id: (int(line), agent) for run_id, (line, _, agent) in places.items()}

    async def record(
        self,
        lease: Lease,
        line: int,
        result: bytes,
        *,
        is_completed: bool,
        usage: BatchUsage,
        runs: Sequence[str],
    ) -> int:
        """Note what a line gave; gives how many bytes of results wait to be gathered.

        Its `runs` are kept as long as others from now on. Doing so again changes nothing: the first result
        stays.
        """
        counters = {name: value for name, value in msgspec.structs.asdict(usage).items() if value}
        names = [
            batch_keys.record(lease.owner, lease.batch_id),
            batch_keys.results(lease.owner, lease.batch_id),
            batch_keys.done(lease.owner, lease.batch_id),
            batch_keys.flight(lease.owner, lease.batch_id),
        ]
        flat: list[Value] = [text for pair in counters.items() for text in map(str, pair)]
        said, waiting = await self._scripts(
            "batch_record",
            names,
            [
                *(lease.epoch, line, result, "completed" if is_completed else "failed", batch_keys.TTL_MS),
                *(keys.run(""), keys.events(""), self._retention_ms, len(counters), *flat, *runs),
            ],
        )
        if said < 0:
            raise LeaseLostError
        return int(waiting)

    async def results(self, lease: Lease) -> dict[int, bytes]:
        """Results that are in no blob yet, by line."""
        found: Any = self._redis.hgetall(batch_keys.results(lease.owner, lease.batch_id))
        return {int(line): result for line, result in (await found).items()}

    async def result_lines(self, lease: Lease) -> set[int]:
        """The lines of those."""
        found: Any = self._redis.hkeys(batch_keys.results(lease.owner, lease.batch_id))
        return {int(line) for line in await found}

    async def done(self, lease: Lease) -> bytes:
        """A bit for each line, from 0, whose result is in a blob."""
        return await self._redis.get(batch_keys.done(lease.owner, lease.batch_id)) or b""

    async def parts(self, lease: Lease) -> list[str]:
        """The names of the blobs that hold results."""
        found: Any = self._redis.lrange(batch_keys.parts(lease.owner, lease.batch_id), 0, -1)
        return [name.decode() for name in await found]

    async def commit(self, lease: Lease, blobs: Sequence[str], lines: Mapping[int, bytes]) -> None:
        """Note that these results are in these blobs."""
        size = sum(len(result) for result in lines.values())
        names = [batch_keys.record(lease.owner, lease.batch_id), *_work_keys(lease)[:3]]
        args: list[Value] = [lease.epoch, batch_keys.TTL_MS, size, len(blobs), *blobs, *lines]
        if not await self._scripts("batch_commit", names, args):
            raise LeaseLostError


def _work_keys(lease: Lease) -> list[str]:
    place = (lease.owner, lease.batch_id)
    return [
        batch_keys.results(*place),
        batch_keys.done(*place),
        batch_keys.parts(*place),
        batch_keys.flight(*place),
    ]
