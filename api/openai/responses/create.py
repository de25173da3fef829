"""`POST /v1/responses`: decode, translate, submit; then follow to the end, or let it run."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Request, post
from litestar import Response as HttpResponse
from litestar.response import Stream
from redis.exceptions import RedisError

from api.accepted import AcceptedRun
from api.access import RUN
from api.answering import STREAM_HEADERS, first_word, whole
from api.backline import BacklineInfo, run_headers
from api.choices import Choices
from api.claude_options import ClaudeOptions
from api.conversations import Conversations
from api.cursor import cursor_of, last_event_id
from api.decode import decode_body
from api.detached import goes_on
from api.media.load import Media
from api.openai import policy as chat_policy
from api.openai.chat import prepare
from api.openai.responses.as_chat import as_chat, require_answers
from api.openai.responses.items import (
    RawItem,
    kept_items,
    raw_items,
    read_items,
    referenced_in,
    with_references,
)
from api.openai.responses.objects import Conversation, Response
from api.openai.responses.policy import ignored_fields
from api.openai.responses.store import Responses, StoredResponse, response_id_of
from api.openai.responses.story import Story, frames, of_choices, replayed, told_of
from api.openai.responses.telling import Manner, told_whole
from api.openai.responses.tools import chat_tools, echoed_tools
from api.openai.responses.wire import ReasoningOptions, ResponsesRequest, TextOptions
from api.runs import Runs
from api.working_copies import Projects
from shared.registry import CachedRegistry
from shared.run_events import RunEvent
from shared.runs import RunRequest
from shared.settings import Settings

_log = structlog.get_logger(__name__)


class Asked(NamedTuple):
    """A request for a response as it was understood."""

    body: ResponsesRequest
    run: RunRequest
    manner: Manner
    ignored: list[str]
    input: list[RawItem]
    ancestors: list[str]


@post("/v1/responses", status_code=200, tags=["OpenAI"], opt=RUN)
async def create_response(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    responses: Responses,
    media: Media,
    settings: Settings,
) -> HttpResponse[bytes] | Stream:
    """Run one turn of an agent; the answer whole, as a stream, or in the background."""
    asked = await ask(
        await request.body(),
        tenant,
        request.state.request_id,
        conversations,
        projects,
        registry,
        responses,
        media,
        settings,
    )
    goes_on(None, request, is_possible=bool(asked.body.background))
    if asked.body.background:
        return await _in_background(request, asked, tenant, runs, responses, settings)
    return await _in_foreground(request, asked, tenant, runs, responses, settings)


async def ask(
    sent: bytes,
    tenant: str,
    request_id: str,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    responses: Responses,
    media: Media,
    settings: Settings,
) -> Asked:
    """Understand a request's body; raises `ApiError`."""
    body, unknown = decode_body(
        sent, ResponsesRequest, nested=["claude_options", "backline", "text", "reasoning"]
    )
    raw = raw_items(body.input)
    raw = with_references(raw, await responses.items(tenant, sorted(referenced_in(raw))))
    before, ancestors = await responses.before(tenant, body.previous_response_id)
    items = read_items(before, "previous_response_id") + read_items(raw, "input")
    options = body.claude_options or ClaudeOptions()
    is_elsewhere = bool(body.conversation or options.session_id or options.continue_)
    require_answers(items, is_known=is_elsewhere)
    tools = chat_tools(body)
    ignored = ignored_fields(body, unknown, tools.ignored)
    chat, places = as_chat(body, items, tools)
    with places.said_in():
        chat_policy.ignored_fields(chat, ())
        _, run = await prepare(chat, tenant, request_id, conversations, projects, registry, media, settings)
    run = msgspec.structs.replace(run, max_tool_calls=body.max_tool_calls)
    run = _never_anew(run, settings) if body.stream or body.background else run
    manner = Manner(
        names=tools.names,
        is_structured=run.output is not None,
        shows_thinking=body.wants_summary,
        shows_tools=body.shows_tools,
    )
    return Asked(body, run, manner, ignored, raw, ancestors)


def _never_anew(run: RunRequest, settings: Settings) -> RunRequest:
    """The run of which others may read a part before its end: that cannot be unsaid."""
    policy = run.on_worker_loss or settings.on_worker_loss
    return msgspec.structs.replace(run, on_worker_loss="fail" if policy == "rerun" else policy)


async def _in_background(
    request: Request[Any, Any, Any],
    asked: Asked,
    tenant: str,
    runs: Runs,
    responses: Responses,
    settings: Settings,
) -> HttpResponse[bytes] | Stream:
    run = await runs.submit(asked.run)
    stored = _stored(asked, run)
    known = await responses.known(tenant, stored.response.id) if run.is_repeated else None
    try:
        if known is None:
            await responses.open(tenant, stored)
    except BaseException:  # its id is known to nobody
        runs.abandon([run])
        raise
    stored = known or stored
    if asked.body.stream:
        after = seen_in(request) if run.is_repeated else -1
        return told_again(stored, tenant, runs, responses, settings, after=after)
    return _answer(stored.response, run_headers(run.id, run.conversation))


def seen_in(request: Request[Any, Any, Any]) -> int:
    """The number of the last event that a client who comes back has seen, else -1; raises `ApiError` 400."""
    seen = last_event_id(request)
    return cursor_of(seen, "Last-Event-ID").n if seen else -1


async def whole_response(asked: Asked, choices: Choices, tenant: str, responses: Responses) -> Response:
    """The response at its end, stored if it is to be; raises `ApiError`."""
    stored = _stored(asked, choices.first)
    story = _story(stored, tenant, responses, is_kept=asked.body.is_stored, is_whole=True)
    return await told_of(choices, story)


async def _in_foreground(
    request: Request[Any, Any, Any],
    asked: Asked,
    tenant: str,
    runs: Runs,
    responses: Responses,
    settings: Settings,
) -> HttpResponse[bytes] | Stream:
    """Wait for the first word, so that an early failure has a status of its own; then answer."""
    choices = await Choices.submit(runs, [asked.run], tick_s=settings.keepalive_s)
    stored = _stored(asked, choices.first)
    story = _story(stored, tenant, responses, is_kept=asked.body.is_stored, is_whole=not asked.body.stream)
    headers = run_headers(choices.first.id, choices.first.conversation)
    after = seen_in(request) if choices.first.is_repeated else -1
    if asked.body.stream:
        batches = of_choices(choices, await first_word(request, choices, settings))
        content = frames(batches, story, choices.place, settings.keepalive_s, after=after)
        headers = {**STREAM_HEADERS, **headers, **choices.headers}
        return Stream(content, media_type="text/event-stream", headers=headers)
    response = await whole(request, choices, told_of(choices, story))
    headers = run_headers(choices.first.id, choices.first.conversation, response.backline.session_id)
    return _answer(response, headers | choices.headers)


def told_again(
    stored: StoredResponse,
    tenant: str,
    runs: Runs,
    responses: Responses,
    settings: Settings,
    *,
    after: int = -1,
) -> Stream:
    """The stream of a stored response behind event number `after`, live if it has not ended."""
    if not stored.response.is_over:
        return _follow(stored, tenant, runs, responses, settings, after=after)
    _, told = told_whole(stored.response, stored.manner, stored.log, stored.ended_at)
    headers = run_headers(stored.run.id, stored.response.backline.conversation_id or "")
    return Stream(
        replayed(told, after), media_type="text/event-stream", headers={**STREAM_HEADERS, **headers}
    )


def _follow(
    stored: StoredResponse,
    tenant: str,
    runs: Runs,
    responses: Responses,
    settings: Settings,
    *,
    after: int,
) -> Stream:
    """The stream of a background response that has not ended, behind event number `after`."""

    async def keep(response: Response, log: list[RunEvent], ended_at: int) -> None:
        try:
            await responses.settle(tenant, stored, response, log, ended_at)
        except RedisError as error:  # whoever looks next will do it
            _log.warning("response_not_settled", response_id=response.id, error=str(error))

    async def ended_at() -> int:
        return await responses.ended_at(stored.run, tenant)

    story = Story(stored.response, stored.manner, ended_at, keep)
    batches = runs.follow(stored.run, tick_s=settings.keepalive_s)
    headers = run_headers(stored.run.id, stored.response.backline.conversation_id or "")
    return Stream(
        frames(batches, story, lambda: runs.place(stored.run.id), settings.keepalive_s, after=after),
        media_type="text/event-stream",
        headers={**STREAM_HEADERS, **headers},
    )


def _story(
    stored: StoredResponse, tenant: str, responses: Responses, *, is_kept: bool, is_whole: bool
) -> Story:
    async def keep(response: Response, log: list[RunEvent], ended_at: int) -> None:
        done = msgspec.structs.replace(stored, response=response, log=log, ended_at=ended_at)
        try:
            await responses.keep(tenant, done)
        except RedisError as error:  # the answer itself is good
            _log.warning("response_not_stored", response_id=response.id, error=str(error))

    async def ended_at() -> int:
        try:
            return await responses.ended_at(stored.run, tenant)
        except RedisError:  # when it ended is not worth the answer
            return stored.run.created

    return Story(stored.response, stored.manner, ended_at, keep if is_kept else None, is_whole=is_whole)


def _stored(asked: Asked, run: AcceptedRun) -> StoredResponse:
    response = _response(asked, run)
    kept = kept_items(asked.input, response.id.removeprefix("resp_"))
    return StoredResponse(
        response=response, manner=asked.manner, run=run, input=kept, ancestors=asked.ancestors
    )


def _response(asked: Asked, run: AcceptedRun) -> Response:
    """The response before its first word, with all that it repeats of the request."""
    body = asked.body
    text, reasoning = body.text or TextOptions(), body.reasoning or ReasoningOptions()
    conversation = run.conversation
    return Response(
        id=response_id_of(run.id),
        created_at=run.created,
        status="queued" if body.background else "in_progress",
        model=body.model,
        backline=BacklineInfo(run.id, run.agent, conversation_id=conversation or None, ignored=asked.ignored),
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        conversation=Conversation(conversation) if conversation else None,
        background=bool(body.background),
        service_tier=run.tier,
        store=body.is_stored,
        tools=echoed_tools(body),
        tool_choice=body.tool_choice if body.tool_choice is not None else "auto",
        parallel_tool_calls=body.parallel_tool_calls is not False,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        text={"format": text.format or {"type": "text"}, "verbosity": text.verbosity or "medium"},
        reasoning={"effort": reasoning.effort, "summary": reasoning.summary},
        truncation=body.truncation or "disabled",
        metadata=body.metadata or {},
        user=body.user if isinstance(body.user, str) else None,
        safety_identifier=body.safety_identifier,
        prompt_cache_key=body.prompt_cache_key,
        prompt_cache_retention=body.prompt_cache_retention,
    )


def _answer(response: Response, headers: dict[str, str]) -> HttpResponse[bytes]:
    return HttpResponse(msgspec.json.encode(response), media_type="application/json", headers=headers)
