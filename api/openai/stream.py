"""The choices of a completion into its stream, or into the whole of it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from api.choices import Choices
from api.errors import ApiError
from api.openai.answer import KEEP_ALIVE, Chunks, Fold, Subject, ending, error_frame
from api.openai.completion import ChatCompletion
from shared.runs import RunCompleted

STREAM_HEADERS = {
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # nginx would gather tokens
}

Keep = Callable[[ChatCompletion], Awaitable[None]]


async def whole(choices: Choices, subject: Subject) -> ChatCompletion:
    """The answer at once; raises `ApiError`."""
    fold = Fold(subject, len(choices.accepted))
    while not choices.have_ended():
        index, batch = await choices.next()
        for logged in batch:
            fold.add(index, logged.event)
    return fold.completion()


async def frames(
    choices: Choices,
    subject: Subject,
    keepalive_s: float,
    begun: Callable[[], None],
    keep: Keep | None,
    *,
    include_usage: bool,
) -> AsyncIterator[bytes]:
    """The body of the stream: what one batch gives leaves in one send, and no frame is ever split.

    `keep` is given the whole answer before the client is told that it has ended.
    """
    begun()
    count = len(choices.accepted)
    chunks = [Chunks(subject, include_usage=include_usage, index=index) for index in range(count)]
    fold = Fold(subject, count)
    said_at = time.monotonic()
    try:
        opening = b"".join(choice.start() for choice in chunks) if count > 1 else b""
        while not choices.have_ended():
            index, batch = await choices.next()
            said = opening + b"".join(chunks[index].encode(logged.event) for logged in batch)
            opening = b""
            for logged in batch:
                if keep is not None or isinstance(logged.event, RunCompleted):
                    fold.add(index, logged.event)
            if choices.have_ended():
                if keep is not None:
                    await keep(fold.completion())
                said += ending(subject, fold.completed, include_usage=include_usage)
            if not said and time.monotonic() - said_at >= keepalive_s:
                said = KEEP_ALIVE
            if said:
                said_at = time.monotonic()
                yield said
    except ApiError as error:
        yield error_frame(error)
    finally:
        await choices.close()
