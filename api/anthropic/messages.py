"""`POST /v1/messages` and `/v1/messages/count_tokens`: decode, translate, submit, follow, answer."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from api.access import RUN
from api.answering import stream, whole
from api.anthropic.answer import Answer, MessageStream, Subject
from api.anthropic.estimate import estimate
from api.anthropic.media import load_media
from api.anthropic.message import TokenCount
from api.anthropic.tools import tools_of
from api.anthropic.translate import first_needed, ignored_fields, shows_thinking, translate
from api.anthropic.wire import CountRequest, MessagesRequest
from api.backline import run_headers, shown
from api.choices import Choices
from api.claude_options import launch_options
from api.conversations import Conversations
from api.decode import decode_body
from api.detached import DetachedStream, DetachedStreams, goes_on
from api.media.load import Media
from api.models import choose
from api.option_files import with_files
from api.places import find_place, put
from api.runs import Runs
from api.working_copies import Projects
from shared.registry import CachedRegistry
from shared.runs import RunRequest
from shared.settings import Settings

_TAGS = ["Anthropic"]


@post("/v1/messages", status_code=200, tags=_TAGS, opt=RUN)
async def create_message(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    conversations: Conversations,
    projects: Projects,
    detached: DetachedStreams,
    media: Media,
    registry: CachedRegistry,
    settings: Settings,
) -> Response[bytes] | Stream:
    """Run one turn of an agent; streams as Anthropic does when `stream` is true."""
    body, unknown = decode_body(await request.body(), MessagesRequest, nested=["claude_options", "backline"])
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
        place,
        tenant=tenant,
        request_id=request.state.request_id,
        history_limit=settings.history_limit,
        options=launch_options(body.claude_options, settings),
        media=await load_media(body.messages, media, start=first_needed(body.messages, place)),
    )
    run = await with_files(await put(run, place, conversations), body.claude_options, media)
    is_detached = goes_on(body.backline, request, is_possible=bool(body.stream))
    choices = await Choices.submit(runs, [run], tick_s=settings.keepalive_s)
    subject = _subject(body, choices, unknown, run, settings)
    if is_detached:
        await detached.detach(tenant, choices, DetachedStream(choices.first, message=subject))
    if body.stream:
        headers = run_headers(subject.run_id, subject.conversation)
        return await stream(request, choices, MessageStream(subject), settings, headers)
    answer = Answer(subject)
    await whole(request, choices, choices.fold(answer.add))
    message = answer.message()
    session_id = message.backline.session_id if message.backline else None
    headers = run_headers(subject.run_id, subject.conversation, session_id) | choices.headers
    return Response(msgspec.json.encode(message), media_type="application/json", headers=headers)


@post("/v1/messages/count_tokens", status_code=200, tags=_TAGS, opt=RUN)
async def count_tokens(
    request: Request[Any, Any, Any], registry: CachedRegistry, settings: Settings
) -> TokenCount:
    """Estimate what a request's own words would take; the agent's own prompt and tools are not in it."""
    body, _ = decode_body(await request.body(), CountRequest)
    await choose(body.model, registry, settings.default_agent)
    tools_of(body)
    return TokenCount(estimate(body))


def _subject(
    body: MessagesRequest, choices: Choices, unknown: list[str], run: RunRequest, settings: Settings
) -> Subject:
    return Subject(
        run_id=choices.first.id,
        agent=choices.first.agent,
        model=body.model,
        request_id=run.request_id,
        ignored=ignored_fields(body, unknown),
        conversation=choices.first.conversation,
        shows_thinking=shows_thinking(body),
        shows_tools="tools" in shown(body.backline, run.agent, settings),
        service_tier="priority" if choices.first.tier == "priority" else "standard",
    )
