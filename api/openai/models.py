"""`GET /v1/models`: agents, and the Claude models behind the default one."""

from __future__ import annotations

from litestar import get

from api.models import listed, unknown_model
from api.openai.completion import Model, ModelList
from shared.agents import is_claude_model
from shared.registry import CachedRegistry, Registry


@get("/v1/models", tags=["OpenAI"])
async def list_models(registry: CachedRegistry) -> ModelList:
    """List the agents that live workers serve, then the Claude aliases."""
    known = await registry.look()
    return ModelList(data=[_model(name, known) for name in listed(known)])


@get("/v1/models/{model_id:path}", tags=["OpenAI"])
async def retrieve_model(model_id: str, registry: CachedRegistry) -> Model:
    """Show one model: an agent, `agent/claude-model`, or a Claude model."""
    known = await registry.look()
    name = model_id.removeprefix("/")
    agent, _, claude_model = name.partition("/")
    if not known.served or not (
        name in known.served
        or (agent in known.served and is_claude_model(claude_model))
        or is_claude_model(name)
    ):
        raise unknown_model(name)
    return _model(name, known)


def _model(name: str, registry: Registry) -> Model:
    agent = registry.agents.get(name.partition("/")[0])
    if agent is None:
        return Model(id=name, created=0, owned_by="anthropic", description="Claude, as the default agent.")
    return Model(id=name, created=agent.created, description=agent.description)
