"""`GET /v1/admin/agents`: what agents have, what holds for them, and what is wrong with them."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import get

from api.access import ADMIN
from api.agent_objects import AgentObject, Agents
from api.principal import Principal
from shared.registry import CachedRegistry


class AgentList(msgspec.Struct, frozen=True):
    """All agents that a worker has announced of late, those served first."""

    data: list[AgentObject]
    object: Literal["list"] = "list"


@get("/v1/admin/agents", tags=["Operations"], opt=ADMIN)
async def list_agents(principal: Principal, registry: CachedRegistry, agents: Agents) -> AgentList:
    """List agents with their health, tools, MCP servers, policy, keys and last errors."""
    return AgentList(await agents.seen_by(principal, await registry.look(fresh=True)))
