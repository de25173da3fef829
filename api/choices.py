"""The runs behind one request: as many as it asks for choices, followed together, let go together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

import msgspec

from api.accepted import AcceptedRun
from api.errors import ApiError, cancelled, failed
from shared.run_events import (
    FellBack,
    LoggedEvent,
    Restarted,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    StderrKept,
    StepKept,
    UpstreamRetry,
)
from shared.runs import RunRequest
from shared.tasks import end_tasks

_BEGIN_S = 5.0
_PREPARING = (RunStarted, Restarted, StepKept, StderrKept, FellBack, UpstreamRetry)
_MOST_WAITING = 64
_TERMINAL = (RunCompleted, RunFailed, RunCancelled)

Batch = list[LoggedEvent]
Said = tuple[int, Batch]
"""The number of a choice, and events of its run; none in a pause."""


class RunSource(Protocol):
    """Where runs are submitted and followed: `api.runs.Runs`, or what stands before it."""

    async def submit(self, request: RunRequest, *, others: Sequence[AcceptedRun] = ()) -> AcceptedRun:
        """Queue a run, a choice beside the `others` before it; raises `ApiError`."""

    def follow(self, run: AcceptedRun, *, tick_s: float) -> AsyncGenerator[Batch, None]:
        """Yield the run's events to its terminal one, and nothing in pauses; raises `ApiError`."""

    async def place(self, run_id: str) -> int:
        """How many runs start before this one and with it; 0 when it does not wait."""

    def abandon(self, runs: Sequence[AcceptedRun], *, has_begun: bool = False) -> None:
        """Note that nobody reads the runs of an answer any more, which may have begun."""


class Choices:
    """Accepted runs. Whoever submits them ends with `close`, whatever happens."""

    def __init__(self, runs: RunSource, accepted: list[AcceptedRun], tick_s: float) -> None:
        self._runs = runs
        self.accepted = accepted
        self._ended: set[int] = set()
        self._over: set[int] = set()
        self._unread: deque[Said] = deque()
        self._error: ApiError | None = None
        self._is_detached = False
        self._fell_back: FellBack | None = None
        self._has_begun = False
        self._said = (
            _one(runs.follow(accepted[0], tick_s=tick_s)) if len(accepted) == 1 else self._all(tick_s)
        )

    @classmethod
    async def submit(cls, runs: RunSource, requests: Sequence[RunRequest], *, tick_s: float) -> Choices:
        """Queue runs, all or none; raises `ApiError`."""
        accepted: list[AcceptedRun] = []
        if len(requests) > 1:  # they are to differ
            requests = [msgspec.structs.replace(request, may_cache=False) for request in requests]
        try:
            for request in requests:
                accepted.append(await runs.submit(request, others=tuple(accepted)))
        except BaseException:
            if accepted:
                runs.abandon(accepted)
            raise
        return cls(runs, accepted, tick_s)

    @property
    def first(self) -> AcceptedRun:
        """The run after which the answer is named."""
        return self.accepted[0]

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say who answers, as far as it is known yet."""
        headers: dict[str, str] = {"x-backline-cache": self.first.cache} if self.first.cache else {}
        if self._fell_back is not None:
            headers["x-backline-answered-by"] = self._fell_back.upstream
        return headers

    async def place(self) -> int:
        """How many runs start before the first of these and with it; 0 when it does not wait."""
        return await self._runs.place(self.first.id)

    async def fold(self, take: Callable[[int, RunEvent], None]) -> None:
        """Give every event, with its choice's number, to `take`; raises `ApiError` as soon as a run fails."""
        while not self.have_ended():
            index, batch = await self.next()
            for logged in batch:
                take(index, logged.event)

    def have_ended(self) -> bool:
        """Whether every run has completed and all is read."""
        return len(self._ended) == len(self.accepted) and not self._unread

    def are_over(self) -> bool:
        """Whether every run has ended, however."""
        return len(self._over) == len(self.accepted)

    async def next(self) -> Said:
        """What is said next; raises `ApiError` after the last words of a run that failed or was cancelled."""
        if self._unread:
            return self._unread.popleft()
        if self._error is not None:
            raise self._error
        return await self._listen()

    async def _listen(self) -> Said:
        index, batch = await anext(self._said)
        self._fell_back = next((e.event for e in batch if isinstance(e.event, FellBack)), self._fell_back)
        if batch and isinstance(batch[-1].event, _TERMINAL):
            self._end(index, batch[-1].event)
        return index, batch

    async def wait_for_words(self, hold_s: float) -> None:
        """Wait until something is worth telling, at most `hold_s` seconds; nothing of it is lost.

        Raises `ApiError` when a run fails or is cancelled without a word.
        """
        give_up_at = time.monotonic() + hold_s
        while time.monotonic() < give_up_at:
            index, batch = await self._listen()
            self._unread += [(index, batch)] if batch else []
            telling = [logged for logged in batch if not isinstance(logged.event, _PREPARING)]
            if telling and self._error is not None and len(telling) == 1:
                raise self._error
            if telling:
                return

    def close_unless_begun(self) -> Callable[[], None]:
        """Let go in a few seconds unless the function given back is called first.

        A client that hangs up between the first word and the stream's begin never has the stream begun, and
        nothing in it would end the runs.
        """
        timer = asyncio.get_running_loop().call_later(_BEGIN_S, self._abandon)

        def begin() -> None:
            timer.cancel()
            self._has_begun = True

        return begin

    async def close(self) -> None:
        """Follow no more; runs that have not completed are cancelled."""
        self._abandon()
        await self._said.aclose()

    def detach(self) -> None:
        """Let the runs go on when nobody follows them any more."""
        self._is_detached = True

    def _abandon(self) -> None:
        if self._is_detached or self.are_over():
            return
        self._is_detached = True  # once: who reads with us is counted
        self._runs.abandon(self.accepted, has_begun=self._has_begun)

    def _end(self, index: int, event: RunEvent) -> None:
        run_id = self.accepted[index].id
        self._over.add(index)
        if isinstance(event, RunCompleted):
            self._ended.add(index)
        elif isinstance(event, RunFailed):
            self._error = failed(event.error, run_id)
        elif isinstance(event, RunCancelled):
            self._error = cancelled(event, run_id)

    async def _all(self, tick_s: float) -> AsyncGenerator[Said, None]:
        waiting: asyncio.Queue[Said | Exception] = asyncio.Queue(_MOST_WAITING)
        readers = [
            asyncio.ensure_future(self._read(index, tick_s, waiting)) for index in range(len(self.accepted))
        ]
        try:
            while True:
                said = await waiting.get()
                if isinstance(said, Exception):
                    raise said
                yield said
        finally:
            await end_tasks(readers)

    async def _read(self, index: int, tick_s: float, waiting: asyncio.Queue[Said | Exception]) -> None:
        try:
            async with aclosing(self._runs.follow(self.accepted[index], tick_s=tick_s)) as batches:
                async for batch in batches:
                    await waiting.put((index, batch))
        except Exception as error:  # noqa: BLE001 - raised again where it is read
            await waiting.put(error)


async def _one(batches: AsyncGenerator[Batch, None]) -> AsyncGenerator[Said, None]:
    async with aclosing(batches):
        async for batch in batches:
            yield 0, batch
