"""`POST /v1/chat/completions`: decode, translate, submit, follow, answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.response import Stream
from redis.exceptions import RedisError

from api.choices import Choices
from api.claude_options import ClaudeOptions, launch_options
from api.conversations import Conversations, Thread
from api.disconnect import unless_gone
from api.errors import ApiError
from api.media.load import Media
from api.models import choose
from api.openai.added import with_added
from api.openai.answer import Subject
from api.openai.completion import ChatCompletion
from api.openai.decode import decode_body
from api.openai.media import load_media
from api.openai.policy import choices_of, ignored_fields
from api.openai.stored import Completions, StoredCompletion
from api.openai.stream import STREAM_HEADERS, Keep, frames, whole
from api.openai.tools import Tools, tools_of
from api.openai.translate import first_needed, translate
from api.openai.wire import ChatRequest
from api.runs import Runs
from api.working_copies import Projects, in_project
from shared.registry import CachedRegistry
from shared.runs import RunRequest
from shared.settings import Settings

_log = structlog.get_logger(__name__)


class _Messages(msgspec.Struct, frozen=True):
    messages: list[dict[str, Any]]


class _Asked(NamedTuple):
    body: ChatRequest
    run: RunRequest
    ignored: list[str]
    tools: Tools


@post("/v1/chat/completions", status_code=200, tags=["OpenAI"])
async def create_chat_completion(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    completions: Completions,
    media: Media,
    settings: Settings,
) -> Response[bytes] | Stream:
    """Run one turn of an agent; streams tokens as they come when `stream` is true."""
    raw = await request.body()
    body, unknown = decode_body(raw, ChatRequest, nested=["claude_options", "backline"])
    ignored = ignored_fields(body, unknown)
    thread, run_request = await _translate(
        body, tenant, request.state.request_id, conversations, projects, registry, media, settings
    )
    asked = _Asked(body, run_request, ignored, tools_of(body))
    choices = await Choices.submit(runs, run_request, choices_of(body, thread), tick_s=settings.keepalive_s)
    subject = _subject(asked, choices)
    keep = _keeper(raw, tenant, completions) if body.store else None
    try:
        if body.stream:
            return await _stream(request, choices, subject, body, settings, keep)
        answer = await unless_gone(request, whole(choices, subject))
    except BaseException:
        await choices.close()
        raise
    await choices.close()
    if keep is not None:
        await keep(answer)
    headers = run_headers(subject)
    if answer.backline.session_id:
        headers["x-backline-session-id"] = answer.backline.session_id
    return Response(msgspec.json.encode(answer), media_type="application/json", headers=headers)


def run_headers(subject: Subject) -> dict[str, str]:
    """The headers that name what answers a request."""
    headers = {"x-backline-run-id": subject.run_id}
    if subject.conversation:
        headers["x-backline-conversation-id"] = subject.conversation
    return headers


async def _translate(
    body: ChatRequest,
    tenant: str,
    request_id: str,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    media: Media,
    settings: Settings,
) -> tuple[Thread | None, RunRequest]:
    thread = await _thread(body, tenant, conversations)
    project = await projects.named(tenant, body.project_id, thread)
    home = project.agent if project is not None else thread.record.agent if thread is not None else ""
    choice = await choose(body.model, registry, home or settings.default_agent)
    options = body.claude_options or ClaudeOptions()
    if options.model is not None:
        choice = choice.with_model(options.model, "claude_options.model")
    if thread is not None:
        thread.require_agent(choice.agent)
    elif options.continue_:
        thread = await conversations.newest(tenant, choice.agent, project.id if project else "")
    run = translate(
        body,
        choice,
        tenant=tenant,
        request_id=request_id,
        history_limit=settings.history_limit,
        thread=thread,
        options=launch_options(body.claude_options, settings),
        media=await load_media(body.messages, media, start=first_needed(body.messages, thread)),
    )
    if run.conversation:
        run = with_added(run, await conversations.waiting(tenant, run.conversation))
    if project is not None:
        run = in_project(run, project)
    return thread, run


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


def _subject(asked: _Asked, choices: Choices) -> Subject:
    show = (asked.body.backline.show if asked.body.backline is not None else None) or ()
    return Subject(
        run_id=choices.first.id,
        agent=choices.first.agent,
        model=asked.body.model,
        created=choices.first.created,
        ignored=asked.ignored,
        conversation=asked.run.conversation,
        custom=asked.tools.custom,
        is_legacy=asked.tools.is_legacy,
        is_structured=asked.run.output is not None,
        shows_thinking="thinking" in show,
        shows_tools="tools" in show,
        metadata=asked.body.metadata,
    )


def _keeper(raw: bytes, tenant: str, completions: Completions) -> Keep:
    messages = msgspec.json.decode(raw, type=_Messages).messages

    async def keep(completion: ChatCompletion) -> None:
        stored = StoredCompletion(completion=completion, messages=messages)
        try:
            await completions.put(tenant, completion.id, stored)
        except RedisError as error:  # the answer itself is good
            _log.warning("completion_not_stored", completion_id=completion.id, error=str(error))

    return keep


async def _stream(
    request: Request[Any, Any, Any],
    choices: Choices,
    subject: Subject,
    body: ChatRequest,
    settings: Settings,
    keep: Keep | None,
) -> Stream:
    """Wait for the first word, so that an early failure has a status of its own; then stream."""
    await unless_gone(request, choices.wait_for_words(settings.stream_hold_s))
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    begun = choices.close_unless_begun()
    content = frames(choices, subject, settings.keepalive_s, begun, keep, include_usage=include_usage)
    return Stream(content, media_type="text/event-stream", headers={**STREAM_HEADERS, **run_headers(subject)})
