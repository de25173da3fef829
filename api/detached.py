"""Streams that go on without their client, and `GET /v1/runs/{run_id}/events`, which picks them up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.params import Parameter
from litestar.response import Stream
from redis.asyncio import Redis

from api.accepted import AcceptedRun
from api.access import READ
from api.answering import STREAM_HEADERS, Encoder, queued
from api.anthropic.answer import MessageStream
from api.anthropic.answer import Subject as MessageSubject
from api.backline import DetachableOptions, run_headers
from api.choices import Choices
from api.cursor import BEGIN, Cursor, cursor_of, last_event_id, numbered
from api.errors import ApiError, begun_anew, cancelled, failed
from api.openai.answer import Subject
from api.openai.stream import ChunkStream
from api.principal import Principal
from api.run_events import run_frames
from api.run_routes import accepted, visible_run
from api.runs import Runs
from api.unattended import Unattended
from shared.run_events import Restarted, RunCancelled, RunCompleted, RunFailed
from shared.run_index import RunIndex
from shared.settings import Settings
from shared.stored import ObjectStore

ON_DISCONNECT = "x-backline-on-disconnect"
_CANCEL, _CONTINUE = "cancel", "continue"

EventId = Annotated[
    str,
    Parameter(max_length=20, description="Give only what follows the event of this id; as `Last-Event-ID`."),
]

EventFormat = Annotated[
    Literal["chat", "run"], Parameter(description="As a chat stream, or as what the run itself says.")
]


class DetachedStream(msgspec.Struct, frozen=True):
    """All it takes to tell a run's stream again: that of a chat (`subject`), or of a `message`."""

    run: AcceptedRun
    subject: Subject | None = None
    include_usage: bool = False
    message: MessageSubject | None = None

    def encoder(self) -> Encoder:
        """What tells it, from its beginning."""
        if self.message is not None:
            return MessageStream(self.message)
        if self.subject is None:
            raise ValueError("a stream of nothing")
        return ChunkStream(self.subject, 1, include_usage=self.include_usage)


class DetachedStreams:
    """A tenant's streams that go on without a connection.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, redis: Redis, unattended: Unattended) -> None:
        self._store = ObjectStore(redis, "stream", DetachedStream, unattended.ttl_s)
        self._unattended = unattended

    async def detach(self, tenant: str, choices: Choices, stream: DetachedStream) -> None:
        """Let the one run of `choices` go on without a connection."""
        try:
            await self._store.put(tenant, stream.run.id, stream)
            await self._unattended.add(tenant, stream.run)
        except BaseException:
            await choices.close()
            raise
        choices.detach()

    async def find(self, tenant: str, run_id: str) -> DetachedStream | None:
        """How a run is told; `None` when it does not go on without a connection."""
        found = await self._store.get(tenant, run_id)
        return found.value if found is not None else None


def goes_on(options: DetachableOptions | None, request: Request[Any, Any, Any], *, is_possible: bool) -> bool:
    """Whether the run is to go on when its client is gone; raises `ApiError` 400 where that cannot be."""
    given = options.on_disconnect if options is not None else None
    header = request.headers.get(ON_DISCONNECT)
    if header not in {None, _CANCEL, _CONTINUE}:
        said = f"'{ON_DISCONNECT}' must be '{_CANCEL}' or '{_CONTINUE}'."
        raise ApiError(400, said, param=ON_DISCONNECT, code="invalid_value")
    if _CONTINUE not in {given, header}:
        return False
    if not is_possible:
        said = "Only the run of a stream of text with one choice can go on without its client."
        param = "backline.on_disconnect" if given == _CONTINUE else ON_DISCONNECT
        raise ApiError(400, said, param=param, code="invalid_value")
    return True


@get("/v1/runs/{run_id:str}/events", tags=["OpenAI"], opt=READ)
async def follow_run(
    run_id: str,
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    detached: DetachedStreams,
    settings: Settings,
    principal: Principal,
    run_index: RunIndex,
    after: EventId = "",
    format: EventFormat = "chat",  # noqa: A002 - the wire's own word
) -> Stream:
    """Go on with a stream that was broken off, behind the event `after`, or that of `Last-Event-ID`.

    With the format `run`: follow any run, of whatever kind of request, in Backline's own words. What was
    said in a run is told to its own tenant only.
    """
    seen = last_event_id(request)
    cursor = cursor_of(after, "after") if after else cursor_of(seen, "Last-Event-ID") if seen else BEGIN
    if format == "run":
        record = await visible_run(run_id, principal, run_index)
        is_own = record.tenant == principal.tenant
        frames = run_frames(runs, accepted(record), settings.keepalive_s, cursor.n, with_words=is_own)
        return Stream(
            frames,
            media_type="text/event-stream",
            headers={**STREAM_HEADERS, **run_headers(run_id)},
        )
    found = await detached.find(tenant, run_id)
    if found is None or await runs.status(run_id, tenant) is None:
        said = f"There is no stream of a run with the id '{run_id[:100]}' that can be picked up."
        raise ApiError(404, said, param="run_id", code="run_not_found")
    return Stream(
        _rest(runs, found, settings.keepalive_s, cursor),
        media_type="text/event-stream",
        headers={**STREAM_HEADERS, **run_headers(run_id, found.run.conversation)},
    )


async def _rest(runs: Runs, found: DetachedStream, keepalive_s: float, after: Cursor) -> AsyncIterator[bytes]:
    """What the stream says behind `after`; what stands before it is told to nobody."""
    encoder = found.encoder()
    said_at = time.monotonic()
    try:
        async with aclosing(runs.follow(found.run, tick_s=keepalive_s)) as batches:
            async for batch in batches:
                frames = b""
                for logged in batch:
                    if isinstance(logged.event, Restarted):
                        raise begun_anew(found.run.id)
                    told = encoder.encode(0, logged.event) + _end(encoder, logged.event, found.run.id)
                    frames += numbered(told, logged.n, after)
                if not frames and time.monotonic() - said_at >= keepalive_s:
                    frames = queued(await runs.place(found.run.id)) or encoder.pause()
                if frames:
                    said_at = time.monotonic()
                    yield frames
    except ApiError as error:
        yield encoder.error(error)


def _end(encoder: Encoder, event: object, run_id: str) -> bytes:
    """What follows the run's last event."""
    match event:
        case RunCompleted():
            return encoder.ending([event])
        case RunFailed(error=error):
            return encoder.error(failed(error, run_id))
        case RunCancelled():
            return encoder.error(cancelled(event, run_id))
    return b""
