"""ARQ's worker with what it lacks: a doorbell, many queues, leases that are renewed, and fenced clean-up.

ARQ 0.28 polls, leaves running jobs at the head of its queue, and keeps a dead worker's job locked for
minutes. This layer replaces its pick-up and its finish and leaves the rest: one script claims (lease and
queue entry in one step), one task renews, another ends what could not be renewed before somebody else may
have it, and clean-up touches only what is still ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, cast

import structlog
from arq.connections import ArqRedis
from arq.worker import RetryJob, Worker, func
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.claims import Claim
from shared.run_store import RunStore
from shared.submission import JOB_FUNCTION
from worker.directories import Directories
from worker.memory import KilledError
from worker.pauses import PutBackError

_IDLE_POLL_S = 1.0
_FIRST_RETRY_S = 0.1
_LONGEST_RETRY_S = 2.0
_MAX_STARTS = 3
_RENEW_AGAIN_S = 0.25
_LAPSES_AT = 7 / 8
"""Of a lease, by this worker's clock: then its runs are left, so that their processes are gone at its end."""
_OVERSLEPT_S = 0.5
_AGAIN_S = 5.0
"""A cancel can be lost (see `shared.tasks`): when to repeat it. Clean-up takes less."""
_NO_LIMIT_S = 10 * 365 * 24 * 3600
"""Turns bound themselves. ARQ takes no limit for its default, which would end them after 300 s."""

_log = structlog.get_logger(__name__)

if TYPE_CHECKING:
    from arq.typing import WorkerCoroutine

Execute = Callable[[Claim], Coroutine[Any, Any, None]]
GiveUp = Callable[[Claim], Coroutine[Any, Any, None]]


class LeaseWorker(Worker):
    """Runs `execute` for every run of `agents` it claims, at most `slots` at a time.

    Of these at most `batch_slots` (`None`: three quarters) are of batches, which leave one slot free.
    Of an agent that cannot be run by what `directories` says none is claimed. A run started `_MAX_STARTS`
    times without an end goes to `give_up` instead. `upstream` stands for the credentials with which the
    model is called.
    """

    def __init__(
        self,
        redis: ArqRedis,
        store: RunStore,
        worker_id: str,
        agents: tuple[str, ...],
        slots: int,
        execute: Execute,
        give_up: GiveUp,
        batch_slots: int | None = None,
        upstream: str = "",
        directories: Directories | None = None,
    ) -> None:
        super().__init__(
            [
                func(
                    cast("WorkerCoroutine", self._execute_job),
                    name=JOB_FUNCTION,
                    timeout=_NO_LIMIT_S,
                    max_tries=_MAX_STARTS,
                )
            ],
            queue_name=keys.queue(agents[0]),
            redis_pool=redis,
            max_jobs=slots,
            keep_result=0,
            handle_signals=False,
            retry_jobs=True,
            log_results=False,
            job_serializer=redis.job_serializer,
            job_deserializer=redis.job_deserializer,
        )
        self._store = store
        self._worker_id = worker_id
        self._places = agents
        self._more_places: tuple[str, ...] = ()
        self._execute = execute
        self._give_up = give_up
        self._batch_slots = batch_slots or max(1, slots * 3 // 4)
        self._upstream = upstream
        self._directories = directories or Directories({})
        self._put_back: set[str] = set()
        self._struck: set[str] = set()
        self._claims: dict[str, Claim] = {}
        self._claim_numbers = count(1)
        self._doorbell = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._held_from = self._clock()
        """When the oldest of the leases was renewed, or before."""

    @property
    def busy(self) -> int:
        """Slots in use."""
        return self.job_counter

    def ring(self) -> None:
        """Look at the queues now."""
        self._doorbell.set()

    def serve(self, places: Sequence[str]) -> None:
        """Claim from now on the runs in these places too, after those of the agents themselves."""
        self._more_places = tuple(places)
        self.ring()

    async def work(self) -> None:
        """Claim and run until cancelled, over lost connections; runs under way are not disturbed by them."""
        delay_s = _FIRST_RETRY_S
        while True:
            try:
                await self._work_once()
                delay_s = _FIRST_RETRY_S
            except (RedisError, OSError) as error:
                _log.warning("queue_unreachable", error=str(error))
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, _LONGEST_RETRY_S)

    async def renew(self, cancel: Callable[[str], None]) -> None:
        """Renew all leases every `RENEW_S` seconds until cancelled; call `cancel` with runs to cancel."""
        wait_s = keys.RENEW_S
        while True:
            await asyncio.sleep(wait_s)
            asked_at = self._clock()
            try:
                verdicts = await self._store.renew(list(self._claims.values()))
            except (RedisError, OSError) as error:
                _log.warning("leases_not_renewed", error=str(error))
                wait_s = min(keys.RENEW_S, _RENEW_AGAIN_S)
                continue
            self._held_from, wait_s = asked_at, keys.RENEW_S
            self._obey(verdicts, cancel)

    async def fence(self, is_ending: Callable[[str], bool]) -> None:
        """Leave runs whose leases could not be renewed, before another worker may take them; until cancelled.

        Their agents would act beside those of the other. A run of which `is_ending` is true has none any
        more, and waits for Redis to take its end.
        """
        while True:
            due = self._held_from + _LAPSES_AT * keys.LEASE_MS / 1000
            await asyncio.sleep(max(_RENEW_AGAIN_S, due - self._clock()))
            if self._clock() > due + _OVERSLEPT_S:  # this host slept: Redis knows what has become of them
                await asyncio.sleep(_OVERSLEPT_S)
            if self._clock() < self._held_from + _LAPSES_AT * keys.LEASE_MS / 1000:
                continue
            for run_id in [each for each in self._claims if not is_ending(each)]:
                self._lose(run_id)

    async def drain(self, timeout_s: float) -> None:
        """Claim no more, wait up to `timeout_s` seconds for the runs under way, give the rest back."""
        self.allow_pick_jobs = False
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()), timeout=timeout_s)
        while left := [task for task in self.tasks.values() if not task.done()]:
            for run_id in tuple(self.tasks):
                self._cancel(run_id)
            await asyncio.wait(left, timeout=_AGAIN_S)

    async def finish_job(self, job_id: str, finish: bool = True, *_: Any, **__: Any) -> None:
        """Let go of a run. Ended ones have been cleaned up with their terminal event; others go back.

        `finish` with the run still ours means that its turn raised: that start counts, or there is no end.
        So does one whose CLI was killed.
        """
        claim = self._claims.pop(job_id, None)
        finish = finish or job_id in self._struck
        self._struck.discard(job_id)
        waits_again = job_id in self._put_back
        self._put_back.discard(job_id)
        if claim is not None:
            with suppress(RedisError, OSError):  # the lease lapses by itself
                await self._store.release(claim, _place_of(claim), counts=finish, waits_again=waits_again)

    async def finish_failed_job(self, job_id: str, *_: Any) -> None:
        """End a run that ARQ will not start (again)."""
        claim = self._claims.get(job_id)
        if claim is not None:
            await self._give_up(claim)
        await self.finish_job(job_id)

    async def _execute_job(self, _: dict[Any, Any], run_id: str) -> None:
        if run_id not in self._claims or not self.allow_pick_jobs:  # the cancel that said so may be lost
            raise RetryJob
        place = _place_of(self._claims[run_id])
        if place not in self._more_places and self._directories.fault(place, at_once=True):
            raise RetryJob  # for another worker that has the agent
        try:
            await self._execute(self._claims[run_id])
        except PutBackError as error:
            self._put_back.add(run_id)
            raise RetryJob from error
        except KilledError as error:
            self._struck.add(run_id)
            raise RetryJob from error
        except (RedisError, OSError) as error:  # it could not begin: nothing against the run
            _log.warning("run_not_begun", run_id=run_id, error=repr(error))
            await asyncio.sleep(_FIRST_RETRY_S)
            raise RetryJob from error

    def _batch_busy(self) -> int:
        return sum(claim.queue.startswith(keys.batch_queue("")) for claim in self._claims.values())

    async def _work_once(self) -> None:
        self._doorbell.clear()
        wait_s = _IDLE_POLL_S
        free = self.max_jobs - self.job_counter
        places = (*filter(self._directories.is_usable, self._places), *self._more_places)
        if self.allow_pick_jobs and free > 0 and places:
            token = f"{self._worker_id}:{next(self._claim_numbers)}"
            asked_at = self._clock()
            claimed = await self._store.claim(
                [keys.queue(place) for place in places],
                token,
                free,
                worker_id=self._worker_id,
                batch_queues=[keys.batch_queue(place) for place in places],
                batch_limit=self._batch_slots - self._batch_busy(),
                spare=int(self.max_jobs > 1),
                upstream=self._upstream,
            )
            if claimed.claims:
                self._held_from = min(self._held_from, asked_at)
            for claim in claimed.claims:
                self._start(claim)
            if claimed.next_due_s is not None:
                wait_s = min(wait_s, claimed.next_due_s + 0.001)
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._doorbell.wait()

    def _start(self, claim: Claim) -> None:
        if claim.run_id in self.tasks:  # its lease lapsed while it ran here: end that one, the lease frees it
            self._lose(claim.run_id)
            return
        self.job_counter += 1
        self._claims[claim.run_id] = claim
        task = self.loop.create_task(self.run_job(claim.run_id, claim.score))
        self.tasks[claim.run_id] = task
        task.add_done_callback(lambda done: self._stopped(claim.run_id, done))

    def _stopped(self, run_id: str, task: asyncio.Task[None]) -> None:
        self.job_counter -= 1
        self.tasks.pop(run_id, None)
        self._claims.pop(run_id, None)
        self.ring()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("run_task_failed", run_id=run_id, error=repr(error))

    def _obey(self, verdicts: Mapping[str, str], cancel: Callable[[str], None]) -> None:
        for run_id, verdict in verdicts.items():
            if verdict == "cancel":
                cancel(run_id)
            elif verdict == "lost":
                self._lose(run_id)

    def _lose(self, run_id: str) -> None:
        """Cancel a run that is no longer ours; once, for a second cancel would cut its clean-up short."""
        if self._claims.pop(run_id, None) is not None:
            _log.warning("lease_lost", run_id=run_id)
            self._cancel(run_id)

    def _cancel(self, run_id: str) -> None:
        """Cancel a run. ARQ waits for it in `wait_for`, which at a second cancel would leave it behind."""
        self.job_tasks.get(run_id, self.tasks[run_id]).cancel()


def _place_of(claim: Claim) -> str:
    return claim.queue.removeprefix(keys.queue("")).removeprefix(keys.BATCH)
