"""How accepted runs are answered in whichever protocol: whole, or as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from litestar import Request
from litestar.response import Stream

from api.choices import Choices
from api.cursor import BEGIN, Cursor, cursor_of, last_event_id, numbered
from api.disconnect import unless_gone
from api.errors import ApiError, begun_anew
from shared.run_events import Restarted, RunCompleted, RunEvent
from shared.settings import Settings

_T = TypeVar("_T")
STREAM_HEADERS = {
    "cache-control": "no-cache, no-store, no-transform",
    "x-accel-buffering": "no",  # nginx would gather tokens
}


BeforeEnd = Callable[[], Awaitable[None]]


class Encoder(Protocol):
    """Says events in a protocol. Every `bytes` is whole frames, or empty."""

    def opening(self) -> bytes:
        """What comes before the first event."""

    def encode(self, index: int, event: RunEvent) -> bytes:
        """An event of the choice number `index`."""

    def ending(self, completed: list[RunCompleted]) -> bytes:
        """What comes after the last event, once every choice has completed: how they did, in their order."""

    def pause(self) -> bytes:
        """A sign of life in a silence."""

    def error(self, error: ApiError) -> bytes:
        """The end of a stream whose run failed."""


async def stream(
    request: Request[Any, Any, Any],
    choices: Choices,
    encoder: Encoder,
    settings: Settings,
    headers: Mapping[str, str],
    before_end: BeforeEnd | None = None,
) -> Stream:
    """Wait for the first word, so that an early failure has a status of its own; then stream.

    `before_end` is awaited once every run has completed, before the client is told so. The stream of one run
    has ids (`api.cursor`); a client that repeats its request is given what follows the last one it saw.

    Raises `ApiError` and `ClientGoneError` before the stream has begun. Closes `choices` in the end.
    """
    after = repeated_after(request, choices)
    begun = await first_word(request, choices, settings)
    frames = _frames(choices, encoder, settings.keepalive_s, begun, before_end, after)
    headers = {**STREAM_HEADERS, **headers, **choices.headers}
    return Stream(frames, media_type="text/event-stream", headers=headers)


async def first_word(
    request: Request[Any, Any, Any], choices: Choices, settings: Settings
) -> Callable[[], None]:
    """Wait for the first word, so that an early failure has a status of its own.

    Gives what a stream must call when it is begun; else `choices` are closed, as when this raises.
    """
    try:
        await unless_gone(request, choices.wait_for_words(settings.stream_hold_s))
    except BaseException:
        await choices.close()
        raise
    return choices.close_unless_begun()


async def whole(request: Request[Any, Any, Any], choices: Choices, fold: Coroutine[Any, Any, _T]) -> _T:
    """What `fold` makes of the runs unless the client hangs up; closes `choices` in the end.

    Raises `ApiError` and `ClientGoneError`.
    """
    try:
        return await unless_gone(request, fold)
    finally:
        await choices.close()


def repeated_after(request: Request[Any, Any, Any], choices: Choices) -> Cursor:
    """Where a client that repeats its request was when its stream broke off; raises `ApiError` 400."""
    seen = last_event_id(request)
    return cursor_of(seen, "Last-Event-ID") if seen and choices.first.is_repeated else BEGIN


def queued(place: int) -> bytes:
    """The comment that tells a waiting client its place; empty when it does not wait (0)."""
    return b": queued position=%d\n" % place if place else b""


async def _frames(
    choices: Choices,
    encoder: Encoder,
    keepalive_s: float,
    begun: Callable[[], None],
    before_end: BeforeEnd | None,
    after: Cursor,
) -> AsyncIterator[bytes]:
    """The body of the stream: what one batch gives leaves in one send, and no frame is ever split."""
    begun()
    ends: dict[int, RunCompleted] = {}
    is_one = len(choices.accepted) == 1
    n = 0
    said_at = time.monotonic()
    try:
        opening = encoder.opening()
        while not choices.have_ended():
            index, batch = await choices.next()
            if any(isinstance(logged.event, Restarted) for logged in batch):
                raise begun_anew(choices.accepted[index].id)  # what was sent cannot be unsaid
            frames, opening = opening, b""
            for logged in batch:
                n = logged.n
                said = encoder.encode(index, logged.event)
                if isinstance(logged.event, RunCompleted):
                    ends[index] = logged.event
                    said += await _ending(encoder, ends, before_end) if choices.have_ended() else b""
                frames += numbered(said, n, after) if is_one else said
            if not frames and time.monotonic() - said_at >= keepalive_s:
                frames = queued(await choices.place()) or encoder.pause()
            if frames:
                said_at = time.monotonic()
                yield frames
    except ApiError as error:
        said = encoder.error(error)
        yield numbered(said, n) if is_one and choices.are_over() else said
    finally:
        await choices.close()


async def _ending(encoder: Encoder, ends: dict[int, RunCompleted], before_end: BeforeEnd | None) -> bytes:
    if before_end is not None:
        await before_end()
    return encoder.ending([ends[number] for number in sorted(ends)])
