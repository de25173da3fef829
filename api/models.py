"""From the `model` of a request to an agent and a Claude model."""

from __future__ import annotations

import msgspec

from api.errors import ApiError
from shared.agents import CLAUDE_ALIASES, is_claude_model
from shared.registry import CachedRegistry, Registry


class Choice(msgspec.Struct, frozen=True):
    """What a model name stands for; `claude_model` `None` leaves the agent its own."""

    agent: str
    claude_model: str | None = None

    def with_model(self, claude_model: str, param: str) -> Choice:
        """The same agent with another Claude model; raises `ApiError` 400 when it is none."""
        if not is_claude_model(claude_model):
            said = f"'{param}' must be a Claude model or one of its aliases, such as 'opus'."
            raise ApiError(400, said, param=param, code="invalid_value")
        return Choice(self.agent, claude_model)


async def choose(model: str, registry: CachedRegistry, default_agent: str | None) -> Choice:
    """`resolve` by the registry as it was a moment ago and, if that will not do, as it is now."""
    try:
        return resolve(model, await registry.look(), default_agent)
    except ApiError:
        return resolve(model, await registry.look(fresh=True), default_agent)


def resolve(model: str, registry: Registry, default_agent: str | None) -> Choice:
    """`agent`, `agent/claude-model` or a Claude model (then the default agent).

    Raises `ApiError` 404 for anything else, and 503 for a Claude model while there is no agent to run it.
    """
    if model in registry.agents:
        return Choice(agent=model)
    agent, _, claude_model = model.partition("/")
    if agent in registry.agents and is_claude_model(claude_model):
        return Choice(agent=agent, claude_model=claude_model)
    if is_claude_model(model):
        return Choice(agent=_default(registry, default_agent), claude_model=model)
    raise unknown_model(model)


def listed(registry: Registry) -> list[str]:
    """The names `GET /v1/models` lists: agents that are served, and the Claude aliases behind the default."""
    return [*registry.served, *(CLAUDE_ALIASES if registry.served else ())]


def require_known(name: str, registry: Registry) -> None:
    """Raise `ApiError` 404 unless a request could name this model now."""
    agent, _, claude_model = name.partition("/")
    is_known = name in registry.served or is_claude_model(name)
    if not registry.served or not (is_known or (agent in registry.served and is_claude_model(claude_model))):
        raise unknown_model(name)


def unknown_model(model: str) -> ApiError:
    """OpenAI's own answer to a model it does not have."""
    return ApiError(
        404,
        f"The model '{model[:200]}' does not exist: it is neither an agent that is served here, nor"
        " 'agent/claude-model', nor a Claude model. GET /v1/models lists what there is.",
        param="model",
        code="model_not_found",
    )


def _default(registry: Registry, default_agent: str | None) -> str:
    if default_agent is not None and default_agent in registry.agents:
        return default_agent
    if default_agent is None and registry.served:
        return registry.served[0]
    raise ApiError(
        503,
        "No worker serves an agent right now.",
        type="service_unavailable_error",
        code="agent_unavailable",
        retry_after_s=5.0,
        is_retryable=True,
    )
