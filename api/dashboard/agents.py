"""The agents that a key may use: what they have, how they are, and what has gone wrong with them."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from api.access import READ
from api.agent_objects import Agents
from api.dashboard.page import page
from api.principal import Principal
from shared.registry import CachedRegistry


@get("/agents", opt=READ)
async def agents_page(
    request: Request[Any, Any, Any], principal: Principal, registry: CachedRegistry, agents: Agents
) -> Response[str]:
    """Show the agents, those served first."""
    rows = await agents.seen_by(principal, await registry.look(fresh=True))
    return page(request, "agents.html", title="Agents", agents=rows)
