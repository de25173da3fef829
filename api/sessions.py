"""`/v1/sessions`: Claude's sessions that a tenant's runs have left, one by one and in sum."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, delete, get, post
from litestar.params import Parameter
from msgspec import UNSET, UnsetType

from api.access import READ, RUN
from api.conversations import Conversations
from api.decode import decode_body
from api.openai.conversations import CreateConversation, begin, wants_tools
from api.openai.items import Item, items_of
from api.openai.pages import After, Deleted, Include, Limit, ObjectList, Sorted, page_of
from shared.conversations import Record
from shared.registry import CachedRegistry
from shared.settings import Settings

_TAGS = ["Sessions"]
_OfAgent = Annotated[str, Parameter(max_length=64, description="Only sessions with this agent.")]


class CreateSession(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/sessions`. `model` or `agent` may say in advance who will answer."""

    metadata: dict[str, str] | None = None
    model: str | None = None
    agent: str | None = None


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session. Times are in seconds since the epoch.

    Until its first turn a created one goes by its conversation's id, and `session_id` is null.
    """

    id: str
    session_id: str | None
    conversation_id: str | None
    agent: str | None
    claude_model: str | None
    turns: int
    cost_usd: float
    created_at: int
    updated_at: int
    is_live: bool | UnsetType = UNSET
    messages: list[Item] | UnsetType = UNSET
    object: Literal["session"] = "session"


class AgentStats(msgspec.Struct, frozen=True):
    """What the stored sessions with one agent add up to."""

    sessions: int
    turns: int
    cost_usd: float


class SessionStats(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `GET /v1/sessions/stats`. `live` counts idle processes of all workers, for everybody."""

    live: int
    stored: int
    conversations: int
    turns: int
    cost_usd: float
    agents: dict[str, AgentStats]
    object: Literal["session.stats"] = "session.stats"


@get("/v1/sessions", tags=_TAGS, opt=READ)
async def list_sessions(
    tenant: str,
    conversations: Conversations,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "desc",
    agent: _OfAgent = "",
) -> ObjectList[Session]:
    """List sessions by last use."""
    page = await conversations.list_sessions(tenant, agent=agent, limit=limit, after=after, order=order)
    data = [_session(record) for record in page.records]
    return page_of(data, [record.id for record in page.records], has_more=page.has_more)


@post("/v1/sessions", status_code=200, tags=_TAGS, opt=RUN)
async def create_session(
    request: Request[Any, Any, Any],
    tenant: str,
    conversations: Conversations,
    registry: CachedRegistry,
    settings: Settings,
) -> Session:
    """Reserve an empty conversation; its id serves as `session_id` too."""
    body, _ = decode_body(await request.body() or b"{}", CreateSession)
    wish = CreateConversation(metadata=body.metadata, model=body.model, agent=body.agent)
    return _session(await begin(wish, tenant, conversations, registry, settings))


@get("/v1/sessions/stats", tags=_TAGS, opt=READ)
async def session_stats(tenant: str, conversations: Conversations, registry: CachedRegistry) -> SessionStats:
    """Sum up the stored sessions, and the live ones that workers announce."""
    tallies, count = await conversations.tally(tenant)
    return SessionStats(
        live=sum(worker.live for worker in (await registry.look()).workers),
        stored=sum(tally.sessions for tally in tallies.values()),
        conversations=count,
        turns=sum(tally.turns for tally in tallies.values()),
        cost_usd=round(sum(tally.cost_usd for tally in tallies.values()), 9),
        agents={
            agent: AgentStats(tally.sessions, tally.turns, round(tally.cost_usd, 9))
            for agent, tally in sorted(tallies.items())
        },
    )


@get("/v1/sessions/{session_id:str}", tags=_TAGS, opt=READ)
async def retrieve_session(
    request: Request[Any, Any, Any],
    session_id: str,
    tenant: str,
    conversations: Conversations,
    include: Include = None,
) -> Session:
    """Show a session with its messages; with `include=tools` also the tools that the agent used."""
    record = await conversations.session(tenant, session_id)
    with_tools = wants_tools(request, include)
    items = items_of(await conversations.entries(tenant, record), include_tools=with_tools)
    is_live = record.has_begun and await conversations.is_live(record)
    return msgspec.structs.replace(_session(record), messages=items, is_live=is_live)


@delete("/v1/sessions/{session_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_session(session_id: str, tenant: str, conversations: Conversations) -> Deleted:
    """Delete a session with its transcript and its conversation, and end the process that holds it."""
    await conversations.delete_session(tenant, await conversations.session(tenant, session_id))
    return Deleted(session_id, "session.deleted")


def _session(record: Record) -> Session:
    return Session(
        id=record.id,
        session_id=record.session or None,
        conversation_id=record.conversation or (None if record.has_begun else record.id),
        agent=record.agent or None,
        claude_model=record.model,
        turns=record.turns,
        cost_usd=record.cost_usd,
        created_at=record.created_ms // 1000,
        updated_at=record.updated_ms // 1000,
    )
