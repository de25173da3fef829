"""`GET /v1/models`: agents, and the Claude models behind the default one, in the words of who asks."""

from __future__ import annotations

from typing import Any

from litestar import Request, get

from api.access import READ
from api.anthropic.models import Cut, ModelInfo, ModelPage, info_of, page
from api.dialect import is_anthropics
from api.models import require_known
from api.openai.completion import Model, ModelList
from api.openai.models import list_of, model_of
from shared.registry import CachedRegistry


@get("/v1/models", tags=["OpenAI", "Anthropic"], opt=READ)
async def list_models(
    request: Request[Any, Any, Any],
    registry: CachedRegistry,
    limit: int = 20,
    after_id: str | None = None,
    before_id: str | None = None,
) -> ModelList | ModelPage:
    """List the agents that live workers serve, then the Claude aliases.

    With a header `anthropic-version` it is Anthropic's list, in pages.
    """
    known = await registry.look()
    if is_anthropics(request.scope):
        return page(known, Cut(limit, after_id, before_id))
    return list_of(known)


@get("/v1/models/{model_id:path}", tags=["OpenAI", "Anthropic"], opt=READ)
async def retrieve_model(
    request: Request[Any, Any, Any], model_id: str, registry: CachedRegistry
) -> Model | ModelInfo:
    """Show one model: an agent, `agent/claude-model`, or a Claude model."""
    known = await registry.look()
    name = model_id.removeprefix("/")
    require_known(name, known)
    return info_of(name, known) if is_anthropics(request.scope) else model_of(name, known)
