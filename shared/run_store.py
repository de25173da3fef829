"""The life of runs in Redis: submit, claim, begin, renew, finish, stop. Each is one script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from arq.connections import ArqRedis

from shared import redis_keys as keys
from shared.claims import Attempt, Claim, Claimed, LogBehindError, UnreadableRunError
from shared.keys import Limits
from shared.repeats import Repeat
from shared.run_events import TERMINAL_STATES, RunEvent, RunFailed, RunStarted, TerminalEvent, encode_event
from shared.runs import RunRequest, RunState, decode_request
from shared.scripts import Scripts, Value
from shared.submission import Submitted, read_answer, replayed, submission


class QueuePlace(msgspec.Struct, frozen=True):
    """Where a run waits: `number` is 1 for the next to start, 0 when it does not wait.

    `paused_s` is for how long nothing will be started, since the model's service refuses; 0 without a pause.
    """

    number: int
    paused_s: float


class RunStatus(msgspec.Struct, frozen=True):
    """Where a run is; `is_held` says that some worker's lease on it lives. Times are Redis's clock."""

    state: RunState
    attempt: int
    is_held: bool
    tenant: str = ""
    agent: str = ""
    created_ms: int = 0
    ended_ms: int = 0


class RunStore:
    """Runs in Redis. Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: ArqRedis, *, retention_s: float) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._retention_ms = int(retention_s * 1000)

    async def submit(
        self,
        run_id: str,
        request: RunRequest,
        *,
        queue_limit: int,
        ttl_s: float,
        keep_s: float | None = None,
        limits: Limits | None = None,
        repeat: Repeat | None = None,
    ) -> Submitted:
        """Queue a run; raises `QueueFullError`, and `LimitReachedError` for what its key may not.

        Submitting the same id again changes nothing. `ttl_s` is the longest it may wait and run, in seconds;
        `keep_s` how long it can be read afterwards, if that is not the usual. With a `repeat` a request that
        was made before gives its run, which counts as read until `leave`; raises `KeyReusedError`, and
        `RunGoneError`.
        """
        call = submission(
            run_id,
            request,
            queue_limit=queue_limit,
            ttl_ms=int(ttl_s * 1000) + keys.RUN_SLACK_MS + self._retention_ms,
            keep_ms=None if keep_s is None else int(keep_s * 1000),
            limits=limits or Limits(),
            repeat=repeat,
        )
        return read_answer(await self._scripts("submit", *call), request.agent)

    async def replay(
        self,
        run_id: str,
        request: RunRequest,
        events: Sequence[RunEvent],
        *,
        keep_s: float | None,
        limits: Limits,
    ) -> Submitted:
        """Accept a run that is answered already, by `events`, the last of them terminal.

        Raises `LimitReachedError` for a limit on requests: nothing else is used.
        """
        keep_ms = self._retention_ms if keep_s is None else int(keep_s * 1000)
        call = replayed(run_id, request, events, keep_ms=keep_ms, limits=limits)
        return read_answer(await self._scripts("replay", *call), request.agent)

    async def claim(
        self,
        queues: Sequence[str],
        token: str,
        limit: int,
        *,
        worker_id: str = "",
        batch_queues: Sequence[str] = (),
        batch_limit: int = 0,
        spare: int = 0,
        upstream: str = "",
    ) -> Claimed:
        """Take up to `limit` runs off `queues`: by tier, the tenants of a tier in turns.

        Those offered to `worker_id` come first while nothing waits. Of `batch_queues`, when the others are
        empty, at most `batch_limit`, and so that `spare` of `limit` stay. None while the runs with the
        credentials `upstream` are paused.
        """
        args: list[str | int] = [token, keys.LEASE_MS, limit]
        args += [len(batch_queues), batch_limit, spare, keys.PROBE_MS]
        own = [keys.own_queue(worker_id), keys.passed(worker_id), keys.pause(upstream)]
        answer = await self._scripts("claim", [*own, *queues, *batch_queues], args)
        claims = tuple(
            Claim(
                run_id=answer[i].decode(),
                queue=answer[i + 1].decode(),
                token=token,
                score=int(max(0.0, float(answer[i + 2]))),
                is_probe=bool(answer[1]),
            )
            for i in range(2, len(answer), 3)
        )
        next_due_s = None if answer[0] < 0 else answer[0] / 1000
        return Claimed(claims=claims, next_due_s=next_due_s)

    async def place(self, run_id: str) -> QueuePlace:
        """Where a run waits; its cost does not grow with the queue."""
        number, paused_ms = await self._scripts("place", [keys.run(run_id)], [run_id])
        return QueuePlace(number=number, paused_s=paused_ms / 1000)

    async def renew(self, claims: Sequence[Claim]) -> dict[str, str]:
        """Keep the leases of `claims`; gives run ids with what to do: `lost`, `kept` or `cancel`."""
        if not claims:
            return {}
        names = [name for c in claims for name in (keys.lease(c.run_id), c.queue, keys.run(c.run_id))]
        args = [value for c in claims for value in (c.run_id, c.token)]
        answers = await self._scripts("renew", names, [keys.LEASE_MS, *args])
        verdicts = {-1: "lost", 0: "kept", 1: "cancel"}
        return {c.run_id: verdicts[answer] for c, answer in zip(claims, answers, strict=True)}

    async def release(
        self, claim: Claim, agent: str, *, counts: bool = False, waits_again: bool = False
    ) -> bool:
        """Give a claimed run back to the queue at once; `False` when it was no longer ours.

        `counts` says that this start was one of those a run may have, `waits_again` that nothing came of it
        and the run is `queued` as before.
        """
        names = [keys.lease(claim.run_id), claim.queue, keys.retry(claim.run_id), keys.job(claim.run_id)]
        args: list[Value] = [claim.run_id, claim.token, keys.doorbell(agent), int(counts), int(waits_again)]
        return bool(await self._scripts("release", [*names, keys.run(claim.run_id)], args))

    async def begin(
        self, claim: Claim, worker_id: str, *, ttl_s: float, is_start: bool = True
    ) -> Attempt | None:
        """Start an attempt; `None` when the run is over or another worker has it.

        Without `is_start` it is only there to end the run. Raises `UnreadableRunError` when the request is
        not one that this version can read.
        """
        names = [keys.run(claim.run_id), keys.events(claim.run_id), keys.lease(claim.run_id)]
        ttl_ms = int(ttl_s * 1000) + keys.RUN_SLACK_MS + self._retention_ms
        started = encode_event(RunStarted(worker=worker_id))
        answer = await self._scripts("begin", names, [claim.token, worker_id, started, ttl_ms, int(is_start)])
        if not answer:
            return None
        attempt, n, request, cancel, waited_ms = answer
        try:
            decoded = decode_request(request)
        except (msgspec.MsgspecError, TypeError) as error:
            raise UnreadableRunError(attempt) from error
        return Attempt(
            run_id=claim.run_id,
            number=attempt,
            n=n,
            request=decoded,
            cancel=cancel.decode(),
            waited_s=waited_ms / 1000,
        )

    async def finish(
        self, claim: Claim, attempt: int, event: TerminalEvent, *, after: int = 0, may_lack: bool = False
    ) -> bool:
        """Write the run's one terminal event; `False` when it had ended or another attempt is newer.

        Raises `LogBehindError` when the log lacks event number `after`, unless it `may_lack` it; then there
        is a hole before the last event.
        """
        names = _run_keys(claim.run_id, claim.queue)
        state, data, spent = _ending(event)
        args: list[Value] = [claim.run_id, attempt, state, data, self._retention_ms, spent]
        answer = await self._scripts("finish", names, [*args, after, int(may_lack)])
        if answer < 0:
            raise LogBehindError
        return bool(answer)

    async def bury(self, claim: Claim, attempt: int, event: RunFailed, *, stderr: str, keep_s: float) -> bool:
        """End a run as `finish` does, and keep it as a dead letter for `keep_s` seconds."""
        names = _run_keys(claim.run_id, claim.queue)
        names += [keys.dead(claim.run_id), keys.dead_request(claim.run_id), keys.DEAD]
        state, data, spent = _ending(event)
        args: list[Value] = [claim.run_id, attempt, state, data, self._retention_ms, spent]
        args += [max(1, int(keep_s * 1000)), event.error.kind.value, stderr]
        args += [keys.MOST_DEAD, keys.dead(""), keys.dead_request("")]
        return bool(await self._scripts("bury", names, args))

    async def leave(self, run_ids: Iterable[str]) -> None:
        """Read runs that others may read too no longer."""
        await self._scripts("leave", [keys.run(run_id) for run_id in run_ids], [])

    async def was_told(self, repeat: Repeat, run_id: str) -> None:
        """Note that a try has had its answer: no retry will ask for it."""
        await self._redis.zrem(repeat.name, run_id)

    async def stop(
        self, run_id: str, agent: str, event: TerminalEvent, reason: str, *, unread_with: str = ""
    ) -> bool:
        """End a run that nobody has with `event`, or tell its worker to cancel it for `reason`.

        With `unread_with`, the run with whose answer it goes: only if nobody reads it; then a repeat of
        its request starts anew. `False` when it was over already or never was.
        """
        names = _run_keys(run_id, keys.queue(agent))
        state, data, spent = _ending(event)
        unread: list[Value] = [1, keys.run(unread_with)] if unread_with else [0, ""]
        answer = await self._scripts(
            "stop", names, [run_id, state, data, self._retention_ms, reason, keys.control(""), spent, *unread]
        )
        return int(answer) > 0

    async def count_unended(self, places: Iterable[str]) -> int:
        """How many runs wait or run in the queues named after these places."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for place in places:
                pipe.zcard(keys.queue(place))
            return sum(await pipe.execute())

    async def status(self, run_id: str) -> RunStatus | None:
        """Where a run is; `None` when there is no such run (any more)."""
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(keys.run(run_id), ["state", "attempt", "tenant", "agent", "created", "ended"])
            pipe.exists(keys.lease(run_id))
            (state, attempt, tenant, agent, created, ended), is_held = await pipe.execute()
        if state is None:
            return None
        return RunStatus(
            state=RunState(state.decode()),
            attempt=int(attempt),
            is_held=bool(is_held),
            tenant=(tenant or b"").decode(),
            agent=(agent or b"").decode(),
            created_ms=int(created),
            ended_ms=int(ended or 0),
        )


def _run_keys(run_id: str, queue: str) -> list[str]:
    return [
        keys.run(run_id),
        keys.events(run_id),
        queue,
        keys.job(run_id),
        keys.lease(run_id),
        keys.retry(run_id),
    ]


def _ending(event: TerminalEvent) -> tuple[str, bytes, str]:
    used = event.usage
    tokens = (used.input_tokens, used.cache_read_tokens, used.cache_write_tokens, used.output_tokens)
    spent = " ".join(str(max(0, number)) for number in (*tokens, used.micro_usd))
    return TERMINAL_STATES[type(event)], encode_event(event), spent
