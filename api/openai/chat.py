"""`POST /v1/chat/completions`: decode, translate, submit, follow, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.response import Stream
from redis.exceptions import RedisError

from api.access import RUN
from api.answering import stream, whole
from api.backline import run_headers, shown
from api.choices import Choices
from api.claude_options import launch_options
from api.conversations import Conversations
from api.decode import decode_body
from api.detached import DetachedStream, DetachedStreams, goes_on
from api.media.load import Media
from api.openai.answer import Fold, Subject
from api.openai.completion import ChatCompletion
from api.openai.media import load_media
from api.openai.output_format import Formatted
from api.openai.policy import choices_of, ignored_fields, includes_usage
from api.openai.stored import Completions, StoredCompletion
from api.openai.stream import ChunkStream
from api.openai.tools import Tools, tools_of
from api.openai.translate import first_needed, translate
from api.openai.wire import ChatRequest
from api.option_files import with_files
from api.places import Place, find_place, put
from api.runs import Runs
from api.working_copies import Projects
from shared.registry import CachedRegistry
from shared.run_events import RunEvent
from shared.runs import RunRequest
from shared.settings import Settings

_log = structlog.get_logger(__name__)

Keep = Callable[[ChatCompletion], Awaitable[None]]


Add = Callable[[int, RunEvent], None]


class _Messages(msgspec.Struct, frozen=True):
    messages: list[dict[str, Any]]


class Asked(NamedTuple):
    """A request, and what became of it."""

    body: ChatRequest
    run: RunRequest
    ignored: list[str]
    tools: Tools
    show: frozenset[str]


@post("/v1/chat/completions", status_code=200, tags=["OpenAI"], opt=RUN)
async def create_chat_completion(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    completions: Completions,
    detached: DetachedStreams,
    media: Media,
    settings: Settings,
) -> Response[bytes] | Stream:
    """Run one turn of an agent; streams tokens as they come when `stream` is true."""
    raw = await request.body()
    body, unknown = decode_body(raw, ChatRequest, nested=["claude_options", "backline"])
    ignored = ignored_fields(body, unknown)
    place, run = await prepare(
        body, tenant, request.state.request_id, conversations, projects, registry, media, settings
    )
    asked = Asked(body, run, ignored, tools_of(body), shown(body.backline, run.agent, settings))
    count = choices_of(body, place.thread)
    is_detached = goes_on(body.backline, request, is_possible=_is_one_text(body, count))
    choices = await Choices.submit(runs, [run] * count, tick_s=settings.keepalive_s)
    if is_detached:
        usage = includes_usage(body.stream_options)
        stream_ = DetachedStream(choices.first, _subject(asked, choices), include_usage=usage)
        await detached.detach(tenant, choices, stream_)
    keep = keeper_of(raw, tenant, completions) if body.store else None
    return await _answer(request, asked, choices, keep, settings)


def _is_one_text(body: ChatRequest, count: int) -> bool:
    output = body.claude_options.output_format if body.claude_options is not None else None
    return bool(body.stream) and count == 1 and output in {None, "text"}


async def prepare(
    body: ChatRequest,
    tenant: str,
    request_id: str,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    media: Media,
    settings: Settings,
) -> tuple[Place, RunRequest]:
    """The run that a request asks for, and where; raises `ApiError`."""
    place = await find_place(
        body,
        tenant=tenant,
        conversations=conversations,
        projects=projects,
        registry=registry,
        settings=settings,
    )
    run = translate(
        body,
        place.choice,
        tenant=tenant,
        request_id=request_id,
        history_limit=settings.history_limit,
        thread=place.thread,
        options=launch_options(body.claude_options, settings),
        media=await load_media(body.messages, media, tenant, start=first_needed(body.messages, place.thread)),
    )
    return place, await with_files(await put(run, place, conversations), body.claude_options, media)


async def _answer(
    request: Request[Any, Any, Any],
    asked: Asked,
    choices: Choices,
    keep: Keep | None,
    settings: Settings,
) -> Response[bytes] | Stream:
    subject = _subject(asked, choices)
    fold = Fold(subject, len(choices.accepted))
    formats = _formats(asked.body, len(choices.accepted))
    if asked.body.stream:
        include_usage = includes_usage(asked.body.stream_options)
        chunks = ChunkStream(
            subject,
            len(choices.accepted),
            include_usage=include_usage,
            fold=fold if keep else None,
            formats=formats,
        )
        headers = run_headers(subject.run_id, subject.conversation)
        before_end = (lambda: keep(fold.completion())) if keep else None
        return await stream(request, choices, chunks, settings, headers, before_end)
    await whole(request, choices, choices.fold(_formatted(fold.add, formats)))
    answer = fold.completion()
    if keep:
        await keep(answer)
    headers = run_headers(subject.run_id, subject.conversation, answer.backline.session_id)
    headers |= choices.headers
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)


async def completion_of(asked: Asked, choices: Choices) -> ChatCompletion:
    """The whole answer, for nobody who could hang up; raises `ApiError`."""
    fold = Fold(_subject(asked, choices), len(choices.accepted))
    await choices.fold(_formatted(fold.add, _formats(asked.body, len(choices.accepted))))
    return fold.completion()


def _formats(body: ChatRequest, count: int) -> list[Formatted]:
    """One for each choice when the answer is to be the CLI's own output, else none."""
    asked = body.claude_options.output_format if body.claude_options is not None else None
    if asked in {None, "text"}:
        return []
    return [Formatted(is_streamed=asked == "stream-json") for _ in range(count)]


def _formatted(add: Add, formats: list[Formatted]) -> Add:
    if not formats:
        return add

    def add_all(index: int, event: RunEvent) -> None:
        for one in formats[index].events(event):
            add(index, one)

    return add_all


def _subject(asked: Asked, choices: Choices) -> Subject:
    return Subject(
        run_id=choices.first.id,
        agent=choices.first.agent,
        model=asked.body.model,
        created=choices.first.created,
        ignored=asked.ignored,
        conversation=choices.first.conversation,
        custom=asked.tools.custom,
        is_legacy=asked.tools.is_legacy,
        is_structured=asked.run.output is not None,
        shows_thinking="thinking" in asked.show,
        shows_tools="tools" in asked.show,
        shows_debug=bool(asked.body.claude_options and asked.body.claude_options.debug),
        service_tier=choices.first.tier,
        metadata=asked.body.metadata,
    )


def keeper_of(raw: bytes, tenant: str, completions: Completions) -> Keep:
    """What stores an answer with the messages it answers."""
    messages = msgspec.json.decode(raw, type=_Messages).messages

    async def keep(completion: ChatCompletion) -> None:
        stored = StoredCompletion(completion=completion, messages=messages)
        try:
            await completions.put(tenant, completion.id, stored)
        except RedisError as error:  # the answer itself is good
            _log.warning("completion_not_stored", completion_id=completion.id, error=str(error))

    return keep
