"""The model list in Anthropic's shape."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from api.errors import ApiError
from api.models import listed
from api.numbers import check_range
from shared.registry import Registry

_MOST = 1000


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A model: an agent, or a Claude model behind the default agent."""

    id: str
    display_name: str
    created_at: str
    type: Literal["model"] = "model"
    lifecycle: Literal["active"] = "active"


class ModelPage(msgspec.Struct, frozen=True):
    """The answer to `GET /v1/models`."""

    data: list[ModelInfo]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Cut(msgspec.Struct, frozen=True):
    """Which part of the list: at most `limit` after or before a model."""

    limit: int = 20
    after_id: str | None = None
    before_id: str | None = None


def page(registry: Registry, cut: Cut) -> ModelPage:
    """A page of what is listed; raises `ApiError` 400 for a limit or a model that cannot be."""
    check_range("limit", cut.limit, 1, _MOST)
    names = listed(registry)
    if cut.after_id is not None:
        names = names[_place(names, cut.after_id, "after_id") + 1 :]
    if cut.before_id is not None:
        names = names[: _place(names, cut.before_id, "before_id")]
    is_from_end = cut.before_id is not None and cut.after_id is None
    shown = names[-cut.limit :] if is_from_end else names[: cut.limit]
    return ModelPage(
        data=[info_of(name, registry) for name in shown],
        has_more=len(shown) < len(names),
        first_id=shown[0] if shown else None,
        last_id=shown[-1] if shown else None,
    )


def info_of(name: str, registry: Registry) -> ModelInfo:
    """One model; of a Claude model nobody here knows the age."""
    agent = registry.agents.get(name.partition("/")[0])
    created = datetime.fromtimestamp(agent.created if agent is not None else 0, UTC)
    return ModelInfo(id=name, display_name=name, created_at=created.strftime("%Y-%m-%dT%H:%M:%SZ"))


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise ApiError(400, f"'{param}' names {name[:200]!r}, which is not in the list.", param=param)
    return names.index(name)
