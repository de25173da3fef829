"""`POST /v1/completions`, the older form: each prompt is a user message to an agent."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response, post
from litestar.response import Stream

from api.access import RUN
from api.answering import stream, whole
from api.backline import run_headers
from api.choices import Choices
from api.decode import decode_body
from api.detached import goes_on
from api.errors import ApiError
from api.models import choose
from api.openai.answer import Subject
from api.openai.policy import MOST_CHOICES, ignored_fields, includes_usage
from api.openai.text_answer import TextFold, TextStream
from api.openai.text_wire import CompletionRequest, TextCompletion
from api.openai.translate import translate
from api.openai.wire import ChatRequest, UserMessage
from api.runs import Runs
from shared.registry import CachedRegistry
from shared.runs import RunRequest
from shared.settings import Settings


class AskedText(NamedTuple):
    """A request as it was understood: a run, and what its text begins with, for each choice."""

    body: CompletionRequest
    runs: list[RunRequest]
    openings: list[str]
    ignored: list[str]


@post("/v1/completions", status_code=200, tags=["OpenAI"], opt=RUN)
async def create_completion(
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    registry: CachedRegistry,
    settings: Settings,
) -> Response[bytes] | Stream:
    """Run one turn of an agent for each prompt; streams tokens as they come when `stream` is true."""
    asked = await ask(await request.body(), tenant, request.state.request_id, registry, settings)
    goes_on(None, request, is_possible=False)
    choices = await Choices.submit(runs, asked.runs, tick_s=settings.keepalive_s)
    if asked.body.stream:
        subject = _subject(asked, choices)
        chunks = TextStream(subject, asked.openings, include_usage=includes_usage(asked.body.stream_options))
        return await stream(request, choices, chunks, settings, run_headers(subject.run_id))
    completion = await whole(request, choices, completion_of(asked, choices))
    headers = run_headers(completion.backline.run_id) if completion.backline else {}
    headers |= choices.headers
    return Response(msgspec.json.encode(completion), media_type="application/json", headers=headers)


async def ask(
    sent: bytes, tenant: str, request_id: str, registry: CachedRegistry, settings: Settings
) -> AskedText:
    """Understand a request's body; raises `ApiError`."""
    body, unknown = decode_body(sent, CompletionRequest)
    prompts = _prompts(body)
    ignored = ignored_fields(_as_chat(body, prompts[0]), unknown)
    choice = await choose(body.model, registry, settings.default_agent)
    runs = [
        translate(
            _as_chat(body, prompt),
            choice,
            tenant=tenant,
            request_id=request_id,
            history_limit=settings.history_limit,
        )
        for prompt in prompts
    ]
    return AskedText(body, runs, prompts if body.echo else [""] * len(prompts), ignored)


async def completion_of(asked: AskedText, choices: Choices) -> TextCompletion:
    """The whole answer; raises `ApiError`."""
    fold = TextFold(_subject(asked, choices), asked.openings)
    await choices.fold(fold.add)
    return fold.completion()


def _subject(asked: AskedText, choices: Choices) -> Subject:
    return Subject(
        run_id=choices.first.id,
        agent=choices.first.agent,
        model=asked.body.model,
        created=choices.first.created,
        service_tier=choices.first.tier,
        ignored=asked.ignored,
    )


def _prompts(body: CompletionRequest) -> list[str]:
    """The prompt of every run, in the order of the choices; raises `ApiError` 400."""
    refused = {
        "suffix": bool(body.suffix),
        "logprobs": bool(body.logprobs),
        "best_of": body.best_of not in {None, 1, body.n},
    }
    for name, is_asked in refused.items():
        if is_asked:
            said = f"Unsupported parameter: '{name}' is not supported with this model."
            raise ApiError(400, said, param=name, code="unsupported_parameter")
    given = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    prompts = [prompt for prompt in given if isinstance(prompt, str)]
    if len(prompts) < len(given):
        said = "'prompt' must be text: an agent does not read tokens."
        raise ApiError(400, said, param="prompt", code="unsupported_value")
    if not prompts or not all(prompt.strip() for prompt in prompts):
        raise ApiError(400, "'prompt' must not be empty.", param="prompt", code="invalid_value")
    each = 1 if body.n is None else body.n
    if each < 1 or each * len(prompts) > MOST_CHOICES:
        said = f"'n' times the number of prompts must be from 1 to {MOST_CHOICES}."
        raise ApiError(400, said, param="n", code="invalid_value")
    return [prompt for prompt in prompts for _ in range(each)]


def _as_chat(body: CompletionRequest, prompt: str) -> ChatRequest:
    """The same, asked as a chat."""
    return ChatRequest(
        model=body.model,
        messages=[UserMessage(prompt)],
        stream=body.stream,
        stream_options=body.stream_options,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=body.stop,
        logit_bias=body.logit_bias,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        user=body.user,
        service_tier=body.service_tier,
    )
