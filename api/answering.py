"""How accepted runs are answered in whichever protocol: whole, or as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from litestar import Request
from litestar.response import Stream

from api.choices import Choices
from api.disconnect import unless_gone
from api.errors import ApiError, begun_anew
from shared.runs import LoggedEvent, Restarted, RunCompleted, RunEvent
from shared.settings import Settings

_T = TypeVar("_T")
STREAM_HEADERS = {
    "cache-control": "no-cache, no-transform",
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
    *,
    is_numbered: bool = False,
) -> Stream:
    """Wait for the first word, so that an early failure has a status of its own; then stream.

    `before_end` is awaited once every run has completed, before the client is told so. With `is_numbered`
    what an event gives ends with its number as the frame's id.

    Raises `ApiError` and `ClientGoneError` before the stream has begun. Closes `choices` in the end.
    """
    begun = await first_word(request, choices, settings)
    headers = {**STREAM_HEADERS, **headers, **choices.headers}
    frames = _frames(choices, encoder, settings.keepalive_s, begun, before_end, is_numbered=is_numbered)
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


def encoded(encoder: Encoder, index: int, logged: LoggedEvent, *, is_numbered: bool) -> bytes:
    """Frames for an event; with `is_numbered` the last one has its number as id, so that none is lost."""
    frames = encoder.encode(index, logged.event)
    return b"%sid: %d\n\n" % (frames[:-1], logged.n) if is_numbered and frames else frames


def queued(place: int) -> bytes:
    """The comment that tells a waiting client its place; empty when it does not wait (0)."""
    return b": queued position=%d\n" % place if place else b""


async def _frames(
    choices: Choices,
    encoder: Encoder,
    keepalive_s: float,
    begun: Callable[[], None],
    before_end: BeforeEnd | None,
    *,
    is_numbered: bool,
) -> AsyncIterator[bytes]:
    """The body of the stream: what one batch gives leaves in one send, and no frame is ever split."""
    begun()
    ends: dict[int, RunCompleted] = {}
    said_at = time.monotonic()
    try:
        opening = encoder.opening()
        while not choices.have_ended():
            index, batch = await choices.next()
            if any(isinstance(logged.event, Restarted) for logged in batch):
                raise begun_anew(choices.accepted[index].id)  # what was sent cannot be unsaid
            said = b"".join(encoded(encoder, index, logged, is_numbered=is_numbered) for logged in batch)
            frames = opening + said
            opening = b""
            if batch and isinstance(batch[-1].event, RunCompleted):
                ends[index] = batch[-1].event
            if choices.have_ended():
                if before_end is not None:
                    await before_end()
                frames += encoder.ending([ends[number] for number in sorted(ends)])
            if not frames and time.monotonic() - said_at >= keepalive_s:
                frames = queued(await choices.place()) or encoder.pause()
            if frames:
                said_at = time.monotonic()
                yield frames
    except ApiError as error:
        yield encoder.error(error)
    finally:
        await choices.close()
