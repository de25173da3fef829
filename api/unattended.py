"""Runs that go on without a connection, and somebody in every API process who looks after them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.accepted import AcceptedRun
from api.care import Guard
from api.errors import ApiError
from api.runs import Runs
from shared import redis_keys as keys
from shared.outage import Outage
from shared.settings import Settings

_SWEEP_S = 5.0

_log = structlog.get_logger(__name__)


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    tenant: str
    run: AcceptedRun


Settle = Callable[[str, AcceptedRun], Awaitable[None]]
"""What is to be done when a tenant's run is over; to do it twice must change nothing."""


class Unattended:
    """Notes runs, ends those that nobody can serve, and has their ends settled. `run` must be running.

    Any number of processes may do so. Every method raises `redis.RedisError` when Redis does not answer.
    """

    def __init__(self, redis: Redis, runs: Runs, settings: Settings) -> None:
        self._redis = redis
        self._runs = runs
        longest_s = settings.queue_timeout_s + settings.run_timeout_s + settings.retention_s
        self.ttl_s = longest_s + keys.RUN_SLACK_MS / 1000
        self._sweep_s = min(_SWEEP_S, settings.retention_s / 4)
        self._settle: Settle | None = None
        self._guards: dict[bytes, Guard] = {}

    def settle_with(self, settle: Settle) -> None:
        """Say what is to be done when a run is over."""
        self._settle = settle

    async def add(self, tenant: str, run: AcceptedRun) -> None:
        """Look after a run from now on."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zadd(keys.UNATTENDED, {_member(tenant, run): run.created})
            pipe.pexpire(keys.UNATTENDED, int(self.ttl_s * 1000))
            await pipe.execute()

    async def remove(self, tenant: str, run: AcceptedRun) -> None:
        """Look after a run no longer."""
        await self._redis.zrem(keys.UNATTENDED, _member(tenant, run))

    async def run(self) -> None:
        """Look after all of them until cancelled."""
        away = Outage("runs_not_looked_after")
        while True:
            try:
                await self.sweep()
                away.is_over()
            except (RedisError, OSError) as error:
                away.goes_on(error)
            await asyncio.sleep(self._sweep_s)

    async def sweep(self) -> None:
        """Look once after every one."""
        members = await self._redis.zrange(keys.UNATTENDED, 0, -1)
        self._guards = {member: self._guards.get(member) or Guard() for member in members}
        for member in members:
            entry = msgspec.json.decode(member, type=_Entry)
            try:
                await self._look_after(entry, self._guards[member])
            except ApiError as error:
                _log.warning("run_not_settled", run_id=entry.run.id, error=error.message)
            except msgspec.MsgspecError as error:  # what is stored is of another version
                _log.error("run_not_settled", run_id=entry.run.id, error=str(error))
                await self.remove(entry.tenant, entry.run)

    async def _look_after(self, entry: _Entry, guard: Guard) -> None:
        status = await self._runs.status(entry.run.id, entry.tenant)
        if status is not None and not status.state.is_terminal:
            await self._runs.look_after(entry.run, guard)
            return
        if self._settle is not None:
            await self._settle(entry.tenant, entry.run)
        await self.remove(entry.tenant, entry.run)


def _member(tenant: str, run: AcceptedRun) -> Any:
    return msgspec.json.encode(_Entry(tenant, run))
