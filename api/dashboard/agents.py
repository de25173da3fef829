"""The agents that a key may use: what they say of themselves, and whether a worker serves them."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from api.access import READ
from api.dashboard.page import page
from shared.registry import CachedRegistry


@get("/agents", opt=READ)
async def agents(request: Request[Any, Any, Any], registry: CachedRegistry) -> Response[str]:
    """Show the agents, those served first."""
    known = await registry.look(fresh=True)
    rows = [
        (record, [worker for worker in known.workers if record.name in worker.agents])
        for record in sorted(known.agents.values(), key=lambda each: each.name)
    ]
    rows.sort(key=lambda row: not row[1])
    return page(request, "agents.html", title="Agents", agents=rows)
