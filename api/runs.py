"""Runs as the API sees them: submit, follow to the end, let go."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any

import msgspec
import structlog
from redis.exceptions import RedisError

from api.accepted import AcceptedRun, accepted_run
from api.cached_answers import CachedAnswers, Looked
from api.care import Care, Guard, lost, lost_sight_of
from api.departures import Departures
from api.errors import ApiError, project_unavailable
from api.models import unknown_model
from api.principal import ANYONE, Principal
from api.rates import Caller
from api.refusals import refusals
from api.repeats import note_replay
from shared.accounts import Standing
from shared.event_tail import Cursor, EventHub, EventsLostError
from shared.fallbacks import agent_only
from shared.prefix import prefix_of
from shared.registry import CachedRegistry, Registry
from shared.repeats import Repeat, beside
from shared.run_events import LoggedEvent, RunCancelled, RunEvent
from shared.run_store import RunStatus, RunStore
from shared.runs import RunRequest, new_run_id
from shared.settings import Settings

_TICK_S = 2.0
_OUTAGE_POLL_S = 0.25
_LONGEST_RETRY_S = 120.0
"""SDKs do not wait longer than this."""
_RETRY_WHEN_UNSERVED_S = 5.0
_TOLD = "told"

_log = structlog.get_logger(__name__)


class Runs:
    """Submits runs and follows them. `run` must be running: it cancels what clients walked away from."""

    def __init__(
        self,
        store: RunStore,
        hub: EventHub,
        registry: CachedRegistry,
        settings: Settings,
        cached: CachedAnswers | None = None,
    ) -> None:
        self._store = store
        self._hub = hub
        self._registry = registry
        self._settings = settings
        self._cached = cached
        self._care = Care(store, registry, settings)
        self._departures = Departures(store, settings.disconnect_grace_s)
        self._caller: Caller | None = None
        self._repeat: Repeat | None = None

    def on_behalf_of(self, caller: Caller, repeat: Repeat | None = None) -> Runs:
        """The same runs; what is submitted here counts for the caller's key, and only uses its agents.

        With a `repeat` the request's first run is found when the same request is made again.
        """
        view = copy.copy(self)
        view._caller = caller  # noqa: SLF001 - one of us
        view._repeat = repeat  # noqa: SLF001
        return view

    async def submit(
        self,
        request: RunRequest,
        *,
        run_id: str | None = None,
        wait_s: float | None = None,
        others: Sequence[AcceptedRun] = (),
    ) -> AcceptedRun:
        """Queue a run; raises `ApiError` when no worker serves its agent, a queue is full or a limit met.

        `priority` is `default` for whom the operator does not let go first, as at OpenAI.
        With a `run_id` of its own, doing so again changes nothing. `wait_s` is how long it may wait, and can
        be read after its end, in seconds, if that is not the usual. `others` are the choices before this one.
        """
        principal = self._caller.principal if self._caller is not None else ANYONE
        if not principal.may_use(request.agent):
            raise unknown_model(request.agent)
        is_first = "priority" in (*self._settings.client_may, *principal.rights)
        tier = "default" if request.tier == "priority" and not is_first else request.tier
        trace = self._caller.traceparent if self._caller is not None else request.traceparent
        request = msgspec.structs.replace(
            request, key=principal.key or request.key, tier=tier, traceparent=trace
        )
        run_id = run_id or (beside(others[0].id, len(others)) if others else new_run_id())
        repeat = self._repeat
        if repeat is not None and others:
            repeat = msgspec.structs.replace(repeat, kind="beside")
        looked = await self._look(request, principal)
        request = looked.request
        if looked.events is not None:
            return await self._replay(run_id, request, looked.events, principal, wait_s)
        await self._require_worker(request)
        ttl_s = wait_s if wait_s is not None else self._settings.queue_timeout_s
        ttl_s += request.timeout_s or self._settings.run_timeout_s
        with refusals(principal.limits, self._tell):
            if request.history and not request.session and not request.is_batch:
                request = msgspec.structs.replace(request, prefix=prefix_of(request))
            submitted = await self._store.submit(
                run_id,
                request,
                queue_limit=self._settings.queue_limit,
                ttl_s=ttl_s,
                keep_s=wait_s,
                limits=principal.limits,
                repeat=repeat,
            )
        self._tell(submitted.standing)
        accepted = accepted_run(run_id, request, submitted, looked.word)
        if repeat is not None and not others:
            self._note_repeat(repeat, accepted)
        said = "run_found" if accepted.is_repeated else "run_submitted"
        _log.info(said, run_id=accepted.id, agent=request.agent, waiting=submitted.waiting, key=principal.key)
        return accepted

    async def _look(self, request: RunRequest, principal: Principal) -> Looked:
        """Whether its answer is cached; of a request with a key it is the key's run that answers again."""
        if self._repeat is not None and self._repeat.is_keyed:
            return Looked(request, "bypass" if request.may_cache else "")
        return Looked(request) if self._cached is None else await self._cached.look(request, principal.cache)

    async def _replay(
        self,
        run_id: str,
        request: RunRequest,
        events: list[RunEvent],
        principal: Principal,
        wait_s: float | None,
    ) -> AcceptedRun:
        """A run that is over as soon as it is accepted."""
        with refusals(principal.limits, self._tell):
            submitted = await self._store.replay(
                run_id, request, events, keep_s=wait_s, limits=principal.limits
            )
        self._tell(submitted.standing)
        _log.info("run_answered_from_cache", run_id=run_id, agent=request.agent, key=principal.key)
        return accepted_run(run_id, request, submitted, "hit")

    async def note_told(self, scope: Mapping[str, Any]) -> None:
        """After an answer: its client has it, and will not try again."""
        repeat, run_id = scope.get("state", {}).get(_TOLD) or (None, "")
        if repeat is None or repeat.is_keyed:
            return
        with suppress(RedisError, OSError):
            await self._store.was_told(repeat, run_id)

    async def follow(self, run: AcceptedRun, *, tick_s: float) -> AsyncGenerator[list[LoggedEvent], None]:
        """Yield the run's events in batches to its terminal one, and an empty batch in every pause.

        A run that nobody can serve any more is ended here, so that no reader waits for ever. Raises
        `ApiError` when Redis stays away, or has lost a part of the log.
        """
        cursor = Cursor()
        guard = Guard()
        while True:
            try:
                async with aclosing(self._hub.tail(run.id, cursor, tick_s=min(tick_s, _TICK_S))) as tail:
                    async for batch in tail:
                        guard.redis_answered()
                        if batch:
                            guard.was_served()
                        else:
                            await self._care.look_after(run, guard)
                        yield batch
                return
            except EventsLostError as error:
                raise lost(run, "Redis has lost a part of what the run said.") from error
            except (RedisError, OSError) as error:
                if guard.redis_is_lost():
                    raise lost_sight_of(run) from error
                _log.warning("tail_interrupted", run_id=run.id, error=str(error))
            yield []
            await asyncio.sleep(_OUTAGE_POLL_S)

    async def status(self, run_id: str, tenant: str) -> RunStatus | None:
        """Where a tenant's run is; `None` when the tenant has no such run (any more)."""
        status = await self._store.status(run_id)
        return status if status is not None and status.tenant == tenant else None

    async def place(self, run_id: str) -> int:
        """How many runs start before this one and with it; 0 when it does not wait, or Redis is away."""
        try:
            return (await self._store.place(run_id)).number
        except (RedisError, OSError):
            return 0

    async def log(self, run_id: str) -> list[LoggedEvent]:
        """The run's events so far, none once they have lapsed."""
        return await self._hub.log(run_id)

    async def is_known(self, run_id: str) -> bool:
        """Whether there is a run of this id, whoever's it is."""
        return await self._store.status(run_id) is not None

    async def stop(self, run_id: str, agent: str) -> bool:
        """Stop a run on its client's request; `False` when it was over already."""
        reason = "The run was stopped on request."
        return await self._store.stop(run_id, agent, RunCancelled(reason=reason), reason)

    async def wait_for_end(self, run: AcceptedRun, *, timeout_s: float) -> None:
        """Wait until the run is over, up to `timeout_s` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), aclosing(self.follow(run, tick_s=_TICK_S)) as batches:
                async for _ in batches:
                    pass

    async def look_after(self, run: AcceptedRun, guard: Guard) -> None:
        """In a pause of whoever waits for it: end a run that nobody could take; raises `ApiError`."""
        await self._care.look_after(run, guard)

    def abandon(self, runs: Sequence[AcceptedRun], *, has_begun: bool = False) -> None:
        """Cancel the runs of an answer that nobody waits for any more (`Departures.add`)."""
        self._departures.add(runs, self._repeat, has_begun=has_begun)

    async def run(self) -> None:
        """Cancel abandoned runs until cancelled."""
        await self._departures.run()

    async def settle(self) -> None:
        """Before the end: wait, within a bound, until what was abandoned is cancelled."""
        await self._departures.settle()

    def _note_repeat(self, repeat: Repeat, accepted: AcceptedRun) -> None:
        """For the answer: whether it is an earlier request's, and what is to be noted once it is given."""
        if self._caller is None:
            return
        self._caller.scope.setdefault("state", {})[_TOLD] = (repeat, accepted.id)
        if accepted.is_repeated:
            note_replay(self._caller.scope["state"])

    def _tell(self, standing: Standing | None) -> None:
        if self._caller is not None:
            self._caller.note(standing)

    async def _require_worker(self, request: RunRequest) -> None:
        agent, project = request.agent, request.project
        if (await self._registry.look()).serves(agent, project):
            return
        registry = await self._registry.look(fresh=True)
        if project and registry.serves(agent, "") and not registry.serves(agent, project):
            raise project_unavailable(project)
        if not registry.serves(agent, project) and not _is_stood_in_for(request, registry):
            raise ApiError(
                503,
                f"No worker serves the agent {agent!r} right now. {registry.why_not(agent)}".rstrip(),
                type="service_unavailable_error",
                code="agent_unavailable",
                retry_after_s=_RETRY_WHEN_UNSERVED_S,
                is_retryable=True,
            )


def _is_stood_in_for(request: RunRequest, registry: Registry) -> bool:
    """Whether a fallback can answer it, in place of an agent that has no worker."""
    return request.may_fall_back and registry.stands_in(request.agent) and not agent_only(request)
