"""From the `model` of a request to an agent and a Claude model."""

from __future__ import annotations

import msgspec

from api.errors import ApiError
from shared.agents import CLAUDE_ALIASES, is_claude_model, is_revision
from shared.registry import CachedRegistry, Registry


class Choice(msgspec.Struct, frozen=True):
    """What a model name stands for; `claude_model` `None` leaves the agent its own.

    `revision` is the git tag or commit of the agent's directory; empty for the directory as it is.
    """

    agent: str
    claude_model: str | None = None
    revision: str = ""

    def with_model(self, claude_model: str, param: str) -> Choice:
        """The same agent with another Claude model; raises `ApiError` 400 when it is none."""
        if not is_claude_model(claude_model):
            said = f"'{param}' must be a Claude model or one of its aliases, such as 'opus'."
            raise ApiError(400, said, param=param, code="invalid_value")
        return msgspec.structs.replace(self, claude_model=claude_model)


async def choose(model: str, registry: CachedRegistry, default_agent: str | None) -> Choice:
    """`resolve` by the registry as it was a moment ago and, if that will not do, as it is now."""
    try:
        return resolve(model, await registry.look(), default_agent)
    except ApiError:
        return resolve(model, await registry.look(fresh=True), default_agent)


def resolve(model: str, registry: Registry, default_agent: str | None) -> Choice:
    """`agent`, `agent/claude-model`, either with `@revision` after the agent, or a Claude model.

    A Claude model is the default agent's. Raises `ApiError` 404 for anything else, and 503 for a Claude model
    while there is no agent to run it.
    """
    if model in registry.agents:
        return Choice(agent=model)
    agent, _, claude_model = model.partition("/")
    if agent in registry.agents and is_claude_model(claude_model):
        return Choice(agent=agent, claude_model=claude_model)
    if (pinned := _at_revision(model, registry)) is not None:
        return pinned
    if is_claude_model(model):
        return Choice(agent=_default(registry, default_agent), claude_model=model)
    raise unknown_model(model)


def _at_revision(model: str, registry: Registry) -> Choice | None:
    """`agent@revision`, and after a last `/` the Claude model: a revision may have slashes of its own."""
    agent, _, rest = model.partition("@")
    if agent not in registry.agents:
        return None
    revision, _, claude_model = rest.rpartition("/")
    if is_revision(revision) and is_claude_model(claude_model):
        return Choice(agent, claude_model, revision)
    return Choice(agent, revision=rest) if is_revision(rest) else None


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
        " 'agent/claude-model' or 'agent@revision', nor a Claude model. GET /v1/models lists what there is.",
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
