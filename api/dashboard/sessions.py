"""Sessions: the list, a transcript to read, and their deletion."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get, post

from api.access import READ, RUN
from api.conversations import Conversations
from api.dashboard.page import go, page
from api.openai.items import items_of
from api.openai.pages import After
from shared.registry import CachedRegistry

_PAGE = 50


@get("/sessions", opt=READ)
async def sessions(
    request: Request[Any, Any, Any],
    tenant: str,
    conversations: Conversations,
    registry: CachedRegistry,
    agent: str = "",
    after: After = "",
) -> Response[str]:
    """Show sessions, the last used first."""
    found = await conversations.list_sessions(
        tenant, agent=agent[:64], limit=_PAGE, after=after, order="desc"
    )
    names = sorted((await registry.look()).agents)
    return page(
        request,
        "sessions.html",
        title="Sessions",
        sessions=found.records,
        has_more=found.has_more,
        agents=names,
        agent=agent,
    )


@get("/sessions/{session_id:str}", opt=READ)
async def session(
    request: Request[Any, Any, Any], session_id: str, tenant: str, conversations: Conversations
) -> Response[str]:
    """Show what was said."""
    record = await conversations.session(tenant, session_id)
    items = items_of(await conversations.entries(tenant, record), include_tools=True)
    is_live = record.has_begun and await conversations.is_live(record)
    return page(request, "session.html", title="Session", session=record, items=items, is_live=is_live)


@post("/sessions/{session_id:str}/delete", status_code=200, opt=RUN)
async def delete_session_page(session_id: str, tenant: str, conversations: Conversations) -> Response[Any]:
    """Delete a session with its transcript."""
    await conversations.delete_session(tenant, await conversations.session(tenant, session_id))
    return go("/dashboard/sessions")
