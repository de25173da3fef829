"""A response told from a run's batches to its end, as a stream or whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing

import msgspec

from api.answering import queued
from api.choices import Batch, Choices
from api.errors import ApiError, begun_anew
from api.one_line import one_line
from api.openai.chunks import KEEP_ALIVE
from api.openai.responses.events import Event
from api.openai.responses.objects import Response
from api.openai.responses.telling import Manner, Telling
from shared.run_events import ErrorKind, LoggedEvent, Restarted, RunError, RunEvent, RunFailed, TerminalEvent

_PAGE = 500


Place = Callable[[], Awaitable[int]]
Keep = Callable[[Response, list[RunEvent], int], Awaitable[None]]
"""Stores a response that has ended, what of its log is told, and when it ended (s)."""


class Story:
    """One response on its way.

    `ended_at` says when its run ended (s), `keep` is called before the end is told. With `is_whole` nobody is
    told anything before the end.
    """

    def __init__(
        self,
        response: Response,
        manner: Manner,
        ended_at: Callable[[], Awaitable[int]],
        keep: Keep | None,
        *,
        is_whole: bool = False,
    ) -> None:
        self.has_ended = False
        self._manner = manner
        self._telling = Telling(response, manner)
        self._ended_at = ended_at
        self._keep = keep
        self._is_whole = is_whole
        self._log: list[RunEvent] = []

    @property
    def response(self) -> Response:
        """The response as it is now."""
        return self._telling.response

    def begin(self) -> list[Event]:
        """The events before the run's first."""
        return self._telling.begin()

    async def take(self, batch: Sequence[LoggedEvent]) -> list[Event]:
        """The events for a batch of the run's."""
        told: list[Event] = []
        for logged in batch:
            event = logged.event
            if isinstance(event, Restarted):
                told += self._restart()
            if self._manner.tells(event):
                self._log.append(event)
            if isinstance(event, TerminalEvent):
                told += await self._end(event)
            else:
                told += self._telling.add(event)
        return told

    def fail(self, error: ApiError) -> list[Event]:
        """The end of a response whose run was lost sight of: nothing is stored, the run may go on."""
        self.has_ended = True
        event = RunFailed(error=RunError(ErrorKind.INTERNAL, error.message))
        return self._telling.end(event, self.response.created_at)

    def _restart(self) -> list[Event]:
        """A worker was lost, and the answer begins anew: what was said before does not count."""
        if not self._is_whole:
            raise begun_anew(self.response.backline.run_id)  # what was sent cannot be unsaid
        self._log.clear()
        self._telling = Telling(self.response, self._manner)
        return self._telling.begin()

    async def _end(self, event: TerminalEvent) -> list[Event]:
        ended_at = await self._ended_at()
        told = self._telling.end(event, ended_at)
        self.has_ended = True
        if self._keep is not None:
            await self._keep(self.response, self._log, ended_at)
        return told


async def told_of(choices: Choices, story: Story) -> Response:
    """The response once its run has completed; raises `ApiError` when it fails or is cancelled."""
    story.begin()
    while not choices.have_ended():
        _, batch = await choices.next()
        await story.take(batch)
    return story.response


async def of_choices(choices: Choices, begun: Callable[[], None]) -> AsyncGenerator[Batch, None]:
    """The batches of a run that ends with the connection; `begun` is called once somebody reads."""
    begun()
    try:
        while True:
            yield (await choices.next())[1]
    finally:
        await choices.close()


async def frames(
    batches: AsyncGenerator[Batch, None], story: Story, place: Place, keepalive_s: float, *, after: int = -1
) -> AsyncIterator[bytes]:
    """The body of a stream from the event that follows number `after` on; no frame is ever split.

    `place` says how many runs start before this one and with it.
    """
    said_at = time.monotonic()
    async with aclosing(batches):
        said = encoded(story.begin(), after)
        try:
            while not story.has_ended:
                if not said and time.monotonic() - said_at >= keepalive_s:
                    said = queued(await place()) or KEEP_ALIVE
                if said:
                    said_at = time.monotonic()
                    yield said
                said = encoded(await story.take(await anext(batches)), after)
        except ApiError as error:
            said = encoded(story.fail(error), after)
        yield said


async def replayed(told: Sequence[Event], after: int) -> AsyncIterator[bytes]:
    """The body of the stream of a response that has ended."""
    for start in range(0, len(told), _PAGE):
        yield encoded(told[start : start + _PAGE], after)


def encoded(told: Iterable[Event], after: int = -1) -> bytes:
    """Events behind number `after` as frames."""
    return b"".join(_frame(event) for event in told if event.sequence_number > after)


def _frame(event: Event) -> bytes:
    kind = str(event.__struct_config__.tag).encode()
    data = one_line(msgspec.json.encode(event))
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.sequence_number, kind, data)
