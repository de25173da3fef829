"""The playground: a chat with any agent. What it says and hears goes over `/v1`, as any client's."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from api.access import RUN
from api.dashboard.page import page
from shared.registry import CachedRegistry


@get("/playground", opt=RUN)
async def playground(
    request: Request[Any, Any, Any], registry: CachedRegistry, agent: str = ""
) -> Response[str]:
    """Show a chat."""
    known = await registry.look(fresh=True)
    return page(
        request, "playground.html", title="Playground", agents=sorted(known.served), chosen=agent[:200]
    )
