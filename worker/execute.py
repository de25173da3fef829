"""One run on this worker, from its claim to its one terminal event."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared import redis_keys as keys
from shared.claims import Attempt, Claim, LogBehindError, UnreadableRunError
from shared.event_writer import EventWriter
from shared.projects import directory_of
from shared.run_events import (
    ErrorKind,
    Restarted,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    StderrKept,
    TerminalEvent,
    decode_event,
)
from shared.run_store import RunStore
from shared.runs import RunRequest
from shared.settings import Settings
from shared.tasks import end_tasks
from worker.admission import NotPermittedError, admit
from worker.fallback.turns import Turns
from worker.memory import KilledError
from worker.metrics import WorkerMetrics
from worker.notes import Notes, Watch
from worker.pauses import Pauses, PutBackError
from worker.recovery import Lost, lost_turn
from worker.reporter import LogReporter
from worker.spans import Spans, trace_of
from worker.stderr import MOST_STDERR
from worker.turn import Stop

_FINISH_RETRY_S = 0.5
_BEHIND_S = 10.0
"""How long a run's end may wait for a log that lacks what was said: as long as readers do (`event_tail`)."""
_LEAVE_S = 5.0
_LOOK_BACK = 5_000
"""Events of a dead run that are looked through for what its CLI wrote."""

_log = structlog.get_logger(__name__)


class Executor:
    """Executes claimed runs: begin, one turn, finish."""

    def __init__(
        self,
        redis: Redis,
        store: RunStore,
        writer: EventWriter,
        turns: Turns,
        settings: Settings,
        worker_id: str,
        pauses: Pauses,
        settings_of: Callable[[str], Settings] | None = None,
        metrics: WorkerMetrics | None = None,
        spans: Spans | None = None,
    ) -> None:
        self._metrics = metrics or WorkerMetrics(())
        self._spans = spans or Spans(None)
        self._redis = redis
        self._store = store
        self._writer = writer
        self._turns = turns
        self._settings = settings
        self._settings_of = settings_of or (lambda _: settings)
        self._worker_id = worker_id
        self._pauses = pauses
        self._notes = Notes(redis, worker_id)
        self._not_permitted = 0
        self._stops: dict[str, Stop] = {}
        self._ending: set[str] = set()
        self._projects: dict[str, tuple[str, asyncio.Task[Any] | None]] = {}

    def cancel(self, run_id: str) -> None:
        """Cancel a run if it is under way here."""
        if run_id in self._stops:
            self._stops[run_id].ask(RunCancelled(reason="The client cancelled the run."))

    def is_ending(self, run_id: str) -> bool:
        """Whether a run's turn is over, and only its last event is to be written."""
        return run_id in self._ending

    async def leave(self, project: str) -> None:
        """Cancel the runs in a project that was deleted, and wait, within a bound, until they have ended."""
        ending: list[asyncio.Task[Any]] = []
        for run_id, (place, task) in self._projects.items():
            if place == project and task is not None:
                self._stops[run_id].ask(RunCancelled(reason="The project was deleted."))
                ending.append(task)
        if ending:
            await asyncio.wait(ending, timeout=_LEAVE_S)

    async def execute(self, claim: Claim) -> None:
        """Run what was claimed. Raises `redis.RedisError` when the run cannot even begin: it stays queued.

        Raises `PutBackError` when the model's service takes no runs for now, and `KilledError`.
        """
        try:
            attempt = await self._store.begin(claim, self._worker_id, ttl_s=self._settings.run_timeout_s)
        except UnreadableRunError as error:
            await self._end(claim, error.attempt, _unreadable(error))
            return
        if attempt is None:
            return
        structlog.contextvars.bind_contextvars(  # for all that this run's own task logs
            run_id=claim.run_id,
            request_id=attempt.request.request_id,
            attempt=attempt.number,
            **trace_of(attempt.request),
        )
        _log.info("run_started", agent=attempt.request.agent, waited_s=round(attempt.waited_s, 3))
        stop = self._stops[claim.run_id] = Stop()
        if attempt.request.project:
            self._projects[claim.run_id] = attempt.request.project, asyncio.current_task()
        watch = Watch(attempt, self._metrics.of(attempt.request.agent))
        try:
            with self._spans.of(watch):
                await self._run(claim, watch, stop)
        finally:
            watch.close()
            del self._stops[claim.run_id]
            self._projects.pop(claim.run_id, None)

    async def _run(self, claim: Claim, watch: Watch, stop: Stop) -> None:
        attempt = watch.attempt
        refusal = await self._refuse(attempt) or await self._turn_away(attempt)
        if refusal is not None:
            watch.ended = refusal
            await self._end(claim, attempt.number, refusal)
        elif (task := asyncio.current_task()) is not None and task.cancelling():
            raise asyncio.CancelledError  # it was lost on the way here: see `shared.tasks`
        else:
            await self._turn(claim, watch, stop)

    async def give_up(self, claim: Claim) -> None:
        """End a run whose every start ended without a word."""
        try:
            attempt = await self._store.begin(
                claim, self._worker_id, ttl_s=self._settings.retention_s, is_start=False
            )
        except UnreadableRunError as error:
            await self._end(claim, error.attempt, _unreadable(error))
            return
        if attempt is not None:
            words = await self._last_words(claim.run_id)
            end = RunFailed(error=_why_given_up(words))
            self._metrics.of(attempt.request.agent).ended(end, 0.0)
            stderr = "".join(event.text for event in words)[-MOST_STDERR:]
            await self._until_written(lambda: self._bury(claim, attempt.number, end, stderr))
            await self._notes.failed(claim.run_id, attempt.request.agent, end)

    async def _refuse(self, attempt: Attempt) -> TerminalEvent | None:
        """Why this run must not start (again), if there is a reason."""
        if attempt.cancel:
            return RunCancelled(reason=attempt.cancel)
        if not self._has_files(attempt.request):
            said = "The project was deleted, or its files are not on this worker."
            return RunFailed(error=RunError(ErrorKind.AGENT_UNAVAILABLE, said))
        has_waited = attempt.waited_s > self._settings.queue_timeout_s and not attempt.request.is_batch
        if attempt.number == 1 and has_waited:
            said = f"No worker was free within {self._settings.queue_timeout_s:g} s."
            return RunFailed(error=RunError(ErrorKind.QUEUE_TIMEOUT, said))
        return None

    async def _turn_away(self, attempt: Attempt) -> TerminalEvent | None:
        """The API lets no such run through: somebody else wrote it, or the settings of the two differ."""
        try:
            settings = self._settings_of(attempt.request.agent)
            await asyncio.to_thread(admit, attempt.request, settings)
            return None
        except NotPermittedError as refused:
            error = refused
        except OSError as failure:  # of the disk, not of Redis: the run is not tried again for it
            error = NotPermittedError(f"What the run names cannot be looked at: {failure.strerror}.")
        self._not_permitted += 1
        _log.warning("run_not_permitted", because=str(error), count=self._not_permitted)
        return RunFailed(error=RunError(ErrorKind.NOT_PERMITTED, str(error)))

    def _has_files(self, request: RunRequest) -> bool:
        if not request.project:
            return True
        try:
            return directory_of(self._settings.data_dir, request.tenant, request.project).is_dir()
        except ValueError:
            return False

    async def _turn(self, claim: Claim, watch: Watch, stop: Stop) -> None:
        attempt = watch.attempt
        patience_s = self._patience_s(attempt)
        reporter = LogReporter(
            self._writer, watch, lambda event: self._end(claim, attempt.number, event, reporter.n), patience_s
        )
        listener = asyncio.ensure_future(self._resume(claim, reporter)) if claim.is_probe else None
        try:
            if attempt.number > 1:
                await self._notes.moved(attempt)
            lost = await self._lost(attempt) if attempt.number > 1 else Lost()
            if not lost.has_output:
                await self._turns.run(attempt.request, reporter, stop)
            else:
                reporter.was_heard.set()
                await self._go_on(attempt.request, lost, reporter, stop)
        except Exception:  # noqa: BLE001 - whatever it is, the run must end
            _log.exception("turn_failed", run_id=attempt.run_id)
            said = "The worker failed on this run; its log has the details."
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.INTERNAL, said)))
        finally:
            if listener is not None:
                await end_tasks([listener])
        if claim.is_probe and reporter.was_heard.is_set():  # for a listener that came too late
            await self._resume(claim, reporter)
        if self._settings.upstream_retries and reporter.refusal is not None:
            await self._pauses.begin(reporter.refusal)
        if reporter.is_put_back:
            raise PutBackError
        if reporter.killed is not None:
            reporter.say(StderrKept(f"{reporter.killed.error.message}\n", killed=True))
            await self._writer.flush()
            raise KilledError
        await self._notes.ended(watch)

    def _patience_s(self, attempt: Attempt) -> float | None:
        """How much longer (s) the run may wait for the model's service; `None` when it may not at all.

        Batches have a limit of their own.
        """
        if not self._settings.upstream_retries:
            return None
        return math.inf if attempt.request.is_batch else self._settings.queue_timeout_s - attempt.waited_s

    async def _resume(self, claim: Claim, reporter: LogReporter) -> None:
        await reporter.was_heard.wait()
        await self._pauses.end(claim, claim.queue.removeprefix(keys.queue("")).removeprefix(keys.BATCH))

    async def _end(self, claim: Claim, attempt: int, event: TerminalEvent, after: int = 0) -> None:
        """Write the terminal event behind event number `after`; over again while Redis is away."""
        self._ending.add(claim.run_id)
        try:
            await self._writer.flush()
            await self._until_written(lambda: self._finish(claim, attempt, event, after))
        finally:
            self._ending.discard(claim.run_id)

    async def _finish(self, claim: Claim, attempt: int, event: TerminalEvent, after: int) -> None:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + _BEHIND_S
        while True:
            may_lack = clock() > give_up_at
            try:
                is_ours = await self._store.finish(claim, attempt, event, after=after, may_lack=may_lack)
            except LogBehindError:
                self._writer.say_again()
                await asyncio.sleep(_FINISH_RETRY_S)
            else:
                break
        _log.info("run_ended", accepted=is_ours, **_summary(event))

    async def _bury(self, claim: Claim, attempt: int, event: RunFailed, stderr: str) -> None:
        keep_s = self._settings.dead_letter_ttl_s
        is_ours = await self._store.bury(claim, attempt, event, stderr=stderr, keep_s=keep_s)
        _log.warning("run_given_up", run_id=claim.run_id, accepted=is_ours, **_summary(event))

    async def _last_words(self, run_id: str) -> list[StderrKept]:
        """What the CLIs of a run have written before they or their workers died."""
        while True:
            try:
                entries = await self._redis.xrevrange(keys.events(run_id), count=_LOOK_BACK)
                said = (decode_event(fields[b"e"]) for _, fields in reversed(entries))
                return [event for event in said if isinstance(event, StderrKept)]
            except (RedisError, OSError) as error:
                _log.warning("log_awaited", error=str(error))
            await asyncio.sleep(_FINISH_RETRY_S)

    async def _until_written(self, write: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await write()
                return
            except (RedisError, OSError) as error:
                _log.warning("finish_delayed", error=str(error))
                await asyncio.sleep(_FINISH_RETRY_S)

    async def _go_on(self, request: RunRequest, lost: Lost, reporter: LogReporter, stop: Stop) -> None:
        """What becomes of a turn that had shown something when its worker was lost."""
        policy = request.on_worker_loss or self._settings_of(request.agent).on_worker_loss
        if policy == "fail" or lost.has_calls or (lost.fell_back and policy != "rerun"):
            said = "The worker was lost after the answer had begun; a second try would say something else."
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.WORKER_LOST, said)))
        elif policy == "rerun":
            reporter.say(Restarted())
            await self._turns.run(request, reporter, stop)
        else:
            await self._turns.recover(request, lost, reporter, stop)

    async def _lost(self, attempt: Attempt) -> Lost:
        """What earlier attempts have left in the run's log; over again while Redis is away."""
        while True:
            try:
                entries = await self._redis.xrange(keys.events(attempt.run_id))
                return lost_turn(decode_event(fields[b"e"]) for _, fields in entries)
            except (RedisError, OSError) as error:
                _log.warning("log_awaited", error=str(error))
            await asyncio.sleep(_FINISH_RETRY_S)


def _why_given_up(words: Sequence[StderrKept]) -> RunError:
    if words and words[-1].killed:
        said = f"{words[-1].text.strip()} The run was started anew each time, and is started no more."
        return RunError(ErrorKind.AGENT_OUT_OF_MEMORY, said)
    return RunError(ErrorKind.WORKER_LOST, "Every worker that started this run was lost.")


def _unreadable(error: UnreadableRunError) -> RunFailed:
    return RunFailed(error=RunError(ErrorKind.INTERNAL, str(error)))


def _summary(event: TerminalEvent) -> dict[str, object]:
    usage = event.usage
    summary: dict[str, object] = {
        "outcome": type(event).__name__,
        "prompt_tokens": usage.prompt_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": usage.cost_usd,
    }
    if isinstance(event, RunFailed):
        summary["error"] = event.error.kind
    if isinstance(event, RunCompleted) and event.fallback is not None:
        summary |= {"fallback": event.fallback.upstream, "because": event.fallback.because}
    return summary
