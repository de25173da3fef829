"""`POST /v1/chat/completions`: decode, translate, submit, follow, answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from api.conversations import Conversations, Thread
from api.errors import ApiError, ClientGoneError, cancelled, failed
from api.models import choose
from api.openai.answer import KEEP_ALIVE, Chunks, Subject, completion_of, error_frame
from api.openai.decode import decode_body
from api.openai.translate import translate
from api.openai.wire import ChatCompletion, ChatRequest, ClaudeOptions
from api.runs import AcceptedRun, Runs
from shared.registry import CachedRegistry
from shared.runs import (
    LoggedEvent,
    RunCancelled,
    RunCompleted,
    RunEvent,
    RunFailed,
    RunStarted,
    TextDelta,
    UpstreamRetry,
)
from shared.settings import Settings
from shared.tasks import end_tasks

_STREAM_HEADERS = {
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # nginx would gather tokens
}
_BEGIN_S = 5.0
_PREPARING = (RunStarted, UpstreamRetry)

Batches = AsyncGenerator[list[LoggedEvent], None]
_T = TypeVar("_T")


@post("/v1/chat/completions", status_code=200, tags=["OpenAI"])
async def create_chat_completion(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    conversations: Conversations,
    registry: CachedRegistry,
    settings: Settings,
) -> Response[bytes] | Stream:
    """Run one turn of an agent; streams tokens as they come when `stream` is true."""
    body, unknown = decode_body(await request.body(), ChatRequest, nested=["claude_options"])
    thread = await _thread(body, tenant, conversations)
    home = thread.record.agent if thread is not None else ""
    choice = await choose(body.model, registry, home or settings.default_agent)
    if thread is not None:
        thread.require_agent(choice.agent)
    elif body.claude_options is not None and body.claude_options.continue_:
        thread = await conversations.newest(tenant, choice.agent)
    run_request = translate(
        body,
        choice,
        tenant=tenant,
        request_id=request.state.request_id,
        history_limit=settings.history_limit,
        thread=thread,
    )
    run = await runs.submit(run_request)
    subject = Subject(
        run_id=run.id,
        agent=run.agent,
        model=body.model,
        created=run.created,
        ignored=unknown,
        conversation=run_request.conversation,
    )
    batches = runs.follow(run, tick_s=settings.keepalive_s)
    try:
        if body.stream:
            return await _stream(request, runs, run, subject, body, batches, settings)
        answer = await _unless_gone(request, _fold(batches, subject))
        headers = _run_headers(subject)
        if answer.backline.session_id:
            headers["x-backline-session-id"] = answer.backline.session_id
        return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)
    except BaseException:
        runs.abandon(run)
        await batches.aclose()
        raise


async def _thread(body: ChatRequest, tenant: str, conversations: Conversations) -> Thread | None:
    """The stored conversation that the request names by an id, if it names one."""
    options = body.claude_options or ClaudeOptions()
    named = {
        "conversation_id": body.conversation_id,
        "claude_options.session_id": options.session_id,
        "claude_options.continue": options.continue_,
    }
    given = [name for name, value in named.items() if value is not None and value is not False]
    if len(given) > 1:
        said = f"Only one of these can say where to go on: {', '.join(given)}."
        raise ApiError(400, said, param=given[1], code="invalid_value")
    if body.conversation_id is not None:
        return await conversations.by_conversation(tenant, body.conversation_id)
    if options.session_id is not None:
        return await conversations.by_session(tenant, options.session_id)
    return None


async def _stream(
    request: Request[Any, Any, Any],
    runs: Runs,
    run: AcceptedRun,
    subject: Subject,
    body: ChatRequest,
    batches: Batches,
    settings: Settings,
) -> Stream:
    """Wait for the first word, so that an early failure has a status of its own; then stream."""
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    chunks = Chunks(subject, include_usage=include_usage)
    first = await _unless_gone(request, _first_words(batches, run.id, settings.stream_hold_s))
    # A client that hangs up just now never has its stream begun, and nothing in it would end the run.
    never_begun = asyncio.get_running_loop().call_later(_BEGIN_S, runs.abandon, run)
    frames = _frames(runs, run, chunks, first, batches, settings.keepalive_s, never_begun)
    return Stream(
        frames, media_type="text/event-stream", headers={**_STREAM_HEADERS, **_run_headers(subject)}
    )


async def _first_words(batches: Batches, run_id: str, hold_s: float) -> list[LoggedEvent]:
    """The first events worth telling, or none when there are none within `hold_s` seconds."""
    give_up_at = time.monotonic() + hold_s
    async for batch in batches:
        telling = [logged for logged in batch if not isinstance(logged.event, _PREPARING)]
        if telling:
            _raise_for(telling[0].event, run_id)
            return telling
        if time.monotonic() >= give_up_at:
            break
    return []


async def _frames(
    runs: Runs,
    run: AcceptedRun,
    chunks: Chunks,
    first: list[LoggedEvent],
    batches: Batches,
    keepalive_s: float,
    never_begun: asyncio.TimerHandle,
) -> AsyncIterator[bytes]:
    """The body of the stream: what one batch gives leaves in one send, and no frame is ever split."""
    never_begun.cancel()
    is_over = False
    said_at = time.monotonic()
    try:
        batch = first
        while True:
            frames = b"".join(chunks.encode(logged.event) for logged in batch)
            is_over = bool(batch) and isinstance(batch[-1].event, RunCompleted)
            if not frames and time.monotonic() - said_at >= keepalive_s:
                frames = KEEP_ALIVE
            if frames:
                said_at = time.monotonic()
                yield frames
            if is_over:
                return
            if batch:
                _raise_for(batch[-1].event, run.id)
            batch = await anext(batches)
    except ApiError as error:
        yield error_frame(error)
    finally:
        if not is_over:
            runs.abandon(run)
        await batches.aclose()


async def _fold(batches: Batches, subject: Subject) -> ChatCompletion:
    text: list[str] = []
    async for batch in batches:
        for logged in batch:
            match logged.event:
                case TextDelta(text=piece):
                    text.append(piece)
                case RunCompleted() as event:
                    return completion_of(subject, "".join(text), event)
                case event:
                    _raise_for(event, subject.run_id)
    raise ApiError(500, "The run ended without an answer.", type="server_error", is_retryable=False)


def _raise_for(event: RunEvent, run_id: str) -> None:
    if isinstance(event, RunFailed):
        raise failed(event.error, run_id)
    if isinstance(event, RunCancelled):
        raise cancelled(event, run_id)


async def _unless_gone(request: Request[Any, Any, Any], work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work` unless the client hangs up first; raises `ClientGoneError` when it does.

    Litestar ends a streaming response at a disconnect, but not a handler that still prepares one.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_wait_until_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:
        await end_tasks([working, gone])


async def _wait_until_gone(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _run_headers(subject: Subject) -> dict[str, str]:
    headers = {"x-backline-run-id": subject.run_id}
    if subject.conversation:
        headers["x-backline-conversation-id"] = subject.conversation
    return headers
