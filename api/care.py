"""Looking after runs that somebody waits for: none is waited for in vain."""

from __future__ import annotations

import time

from api.accepted import AcceptedRun
from api.errors import ApiError
from shared.registry import CachedRegistry
from shared.run_events import ErrorKind, RunError, RunFailed
from shared.run_store import RunStore
from shared.runs import RunState
from shared.settings import Settings

_OUTAGE_S = 30.0
_RETRY_S = 5.0


class Care:
    """Ends runs that nobody can serve any more."""

    def __init__(self, store: RunStore, registry: CachedRegistry, settings: Settings) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings

    async def look_after(self, run: AcceptedRun, guard: Guard) -> None:
        """In a pause: end the run if it waits and nobody could take it.

        Raises `ApiError` when Redis has lost it.
        """
        status = await self._store.status(run.id)
        if status is None:
            raise lost(run, "The run's record is gone: Redis has lost its data or the run waited too long.")
        if run.is_batch:
            return
        if (
            not status.is_held
            and status.state is RunState.QUEUED
            and guard.has_waited(self._settings.queue_timeout_s)
        ):
            await self._fail(run, await self._why_it_waits(run))
        elif status.is_held or status.state.is_terminal or await self._is_served(run):
            guard.was_served()
        elif guard.is_unserved(self._settings.unserved_timeout_s):
            kind = ErrorKind.WORKER_LOST if status.attempt else ErrorKind.AGENT_UNAVAILABLE
            said = f"The last worker of the agent {run.agent!r} has left."
            if why := (await self._registry.look()).why_not(run.agent):
                said = f"No worker serves the agent {run.agent!r} any more. {why}"
            if run.project:
                said = f"The last worker that has the files of the project {run.project!r} has left."
            await self._fail(run, RunError(kind, said, _RETRY_S))

    async def _why_it_waits(self, run: AcceptedRun) -> RunError:
        paused_s = (await self._store.place(run.id)).paused_s
        if paused_s:
            said = "The model's service takes no more requests of this server for now."
            return RunError(ErrorKind.UPSTREAM_RATE_LIMITED, said, paused_s)
        said = f"No worker was free within {self._settings.queue_timeout_s:g} s."
        return RunError(ErrorKind.QUEUE_TIMEOUT, said)

    async def _is_served(self, run: AcceptedRun) -> bool:
        registry = await self._registry.look()
        return registry.serves(run.agent, run.project) or registry.stands_in(run.agent)

    async def _fail(self, run: AcceptedRun, error: RunError) -> None:
        await self._store.stop(run.id, run.agent, RunFailed(error=error), "stopped")


class Guard:
    """How long somebody has waited for a run in vain: for Redis, or for a worker."""

    def __init__(self) -> None:
        self._began_at = self._served_at = self._answered_at = time.monotonic()

    def was_served(self) -> None:
        """A worker has the run, or could take it."""
        self._served_at = time.monotonic()

    def redis_answered(self) -> None:
        """The stream was read."""
        self._answered_at = time.monotonic()

    def has_waited(self, limit_s: float) -> bool:
        """Whether more than `limit_s` seconds have passed."""
        return time.monotonic() - self._began_at > limit_s

    def is_unserved(self, limit_s: float) -> bool:
        """Whether nobody could take the run for more than `limit_s` seconds."""
        return time.monotonic() - self._served_at > limit_s

    def redis_is_lost(self) -> bool:
        """Whether Redis has been silent for too long."""
        return time.monotonic() - self._answered_at > _OUTAGE_S


def lost(run: AcceptedRun, said: str) -> ApiError:
    """The error of a run that Redis has lost, or a part of it; `said` tells which."""
    return ApiError(500, said, type="server_error", code="run_lost", is_retryable=False, run_id=run.id)


def lost_sight_of(run: AcceptedRun) -> ApiError:
    """The error of a run that cannot be read.

    Not to be retried: it was accepted, and a second one could do its work twice.
    """
    return ApiError(
        503,
        "The queue does not answer; the run may still be going on.",
        type="service_unavailable_error",
        code="queue_lost",
        is_retryable=False,
        run_id=run.id,
    )
