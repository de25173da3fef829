"""`POST /v1/responses/input_tokens`, an estimate; and `/compact`, which is refused in words."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Request, post

from api.access import RUN
from api.conversations import Conversations
from api.errors import ApiError
from api.estimate import estimate_run
from api.media.load import Media
from api.openai.responses.create import ask
from api.openai.responses.store import Responses
from api.working_copies import Projects
from shared.registry import CachedRegistry
from shared.settings import Settings


class InputTokens(msgspec.Struct, frozen=True):
    """How many tokens a request's input is, about."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


@post("/v1/responses/input_tokens", status_code=200, tags=["OpenAI"], opt=RUN)
async def count_input_tokens(
    request: Request[Any, Any, Any],
    tenant: str,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    responses: Responses,
    media: Media,
    settings: Settings,
) -> InputTokens:
    """Estimate what a request's own words would take, the responses it goes on from included.

    The agent's own prompt and tools are not in it. Runs nothing.
    """
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
    return InputTokens(estimate_run(asked.run))


@post("/v1/responses/compact", status_code=200, tags=["OpenAI"], opt=RUN)
async def compact_response() -> None:
    """Refused: there is no compacted conversation to hand out. The CLI compacts its own sessions."""
    said = (
        "Conversations cannot be compacted by request: an agent's session is compacted by itself when it "
        "grows long. Go on with 'previous_response_id' or 'conversation'."
    )
    raise ApiError(400, said, code="unsupported_endpoint", is_retryable=False)
