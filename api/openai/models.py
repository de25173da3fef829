"""The model list in OpenAI's shape."""

from __future__ import annotations

from api.models import listed
from api.openai.completion import Model, ModelList
from shared.registry import Registry


def list_of(registry: Registry) -> ModelList:
    """All models that are listed."""
    return ModelList(data=[model_of(name, registry) for name in listed(registry)])


def model_of(name: str, registry: Registry) -> Model:
    """One model."""
    agent = registry.agents.get(name.partition("/")[0])
    if agent is None:
        return Model(id=name, created=0, owned_by="anthropic", description="Claude, as the default agent.")
    return Model(id=name, created=agent.created, description=agent.description)
