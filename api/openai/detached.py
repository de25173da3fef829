"""Chat streams that go on without their client, and `GET /v1/runs/{run_id}/events`, which picks them up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import Parameter
from litestar.response import Stream
from redis.asyncio import Redis

from api.access import READ
from api.answering import STREAM_HEADERS, encoded, queued
from api.backline import run_headers
from api.choices import Choices
from api.claude_options import ClaudeOptions
from api.errors import ApiError, begun_anew, cancelled, failed
from api.openai.answer import Subject
from api.openai.stream import ChunkStream
from api.openai.wire import ChatRequest
from api.principal import Principal
from api.run_events import run_frames
from api.run_routes import accepted, visible_run
from api.runs import AcceptedRun, Runs
from api.unattended import Unattended
from shared.run_index import RunIndex
from shared.runs import Restarted, RunCancelled, RunCompleted, RunFailed
from shared.settings import Settings
from shared.stored import ObjectStore

_CONTINUE = "continue"

EventNumber = Annotated[int, Parameter(ge=0, description="Give only what follows this event.")]

EventFormat = Annotated[
    Literal["chat", "run"], Parameter(description="As a chat stream, or as what the run itself says.")
]


class DetachedStream(msgspec.Struct, frozen=True):
    """All it takes to tell a run's stream again."""

    run: AcceptedRun
    subject: Subject
    include_usage: bool


class DetachedStreams:
    """A tenant's chat streams that go on without a connection.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, redis: Redis, unattended: Unattended) -> None:
        self._store = ObjectStore(redis, "stream", DetachedStream, unattended.ttl_s)
        self._unattended = unattended

    async def detach(self, tenant: str, choices: Choices, subject: Subject, include_usage: bool) -> None:
        """Let the one run of `choices` go on without a connection."""
        run = choices.first
        try:
            await self._store.put(tenant, run.id, DetachedStream(run, subject, include_usage))
            await self._unattended.add(tenant, run)
        except BaseException:
            await choices.close()
            raise
        choices.detach()

    async def find(self, tenant: str, run_id: str) -> DetachedStream | None:
        """How a run is told; `None` when it does not go on without a connection."""
        found = await self._store.get(tenant, run_id)
        return found.value if found is not None else None


def goes_on(body: ChatRequest, header: str | None, count: int) -> bool:
    """Whether the run is to go on when its client is gone; raises `ApiError` 400 where that cannot be."""
    given = body.backline.on_disconnect if body.backline is not None else None
    if _CONTINUE not in {given, header}:
        return False
    options = body.claude_options or ClaudeOptions()
    if not body.stream or count > 1 or options.output_format not in {None, "text"}:
        said = "Only the run of a stream of text with one choice can go on without its client."
        raise ApiError(400, said, param="backline.on_disconnect", code="invalid_value")
    return True


@get("/v1/runs/{run_id:str}/events", tags=["OpenAI"], opt=READ)
async def follow_run(
    run_id: str,
    tenant: str,
    runs: Runs,
    detached: DetachedStreams,
    settings: Settings,
    principal: Principal,
    run_index: RunIndex,
    after: EventNumber = 0,
    format: EventFormat = "chat",  # noqa: A002 - the wire's own word
) -> Stream:
    """Go on with a chat stream that was broken off, behind the event number `after`.

    With the format `run`: follow any run, of whatever kind of request, in Backline's own words.
    """
    if format == "run":
        run = accepted(await visible_run(run_id, principal, run_index))
        return Stream(
            run_frames(runs, run, settings.keepalive_s, after),
            media_type="text/event-stream",
            headers={**STREAM_HEADERS, **run_headers(run_id)},
        )
    found = await detached.find(tenant, run_id)
    if found is None or await runs.status(run_id, tenant) is None:
        said = f"There is no stream of a run with the id '{run_id[:100]}' that can be picked up."
        raise ApiError(404, said, param="run_id", code="run_not_found")
    return Stream(
        _rest(runs, found, settings.keepalive_s, after),
        media_type="text/event-stream",
        headers={**STREAM_HEADERS, **run_headers(run_id, found.subject.conversation)},
    )


async def _rest(runs: Runs, found: DetachedStream, keepalive_s: float, after: int) -> AsyncIterator[bytes]:
    """What the stream says behind event number `after`; what stands before it is told to nobody."""
    chunks = ChunkStream(found.subject, 1, include_usage=found.include_usage)
    said_at = time.monotonic()
    try:
        async with aclosing(runs.follow(found.run, tick_s=keepalive_s)) as batches:
            async for batch in batches:
                frames = b""
                for logged in batch:
                    if isinstance(logged.event, Restarted):
                        raise begun_anew(found.run.id)
                    told = encoded(chunks, 0, logged, is_numbered=True)
                    frames += told if logged.n > after else b""
                    frames += _end(chunks, logged.event, found.run.id)
                if not frames and time.monotonic() - said_at >= keepalive_s:
                    frames = queued(await runs.place(found.run.id)) or chunks.pause()
                if frames:
                    said_at = time.monotonic()
                    yield frames
    except ApiError as error:
        yield chunks.error(error)


def _end(chunks: ChunkStream, event: object, run_id: str) -> bytes:
    """What follows the run's last event."""
    match event:
        case RunCompleted():
            return chunks.ending([event])
        case RunFailed(error=error):
            return chunks.error(failed(error, run_id))
        case RunCancelled():
            return chunks.error(cancelled(event, run_id))
    return b""
