"""OpenAI's Conversations: create, list, show, update, delete, and their items."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Request, delete, get, post

from api.access import READ, RUN
from api.conversations import Conversations
from api.decode import decode_body
from api.errors import ApiError
from api.models import Choice, choose
from api.openai.added import read_items
from api.openai.pages import After, Deleted, Limit, ObjectList, Sorted, checked_metadata, page_of
from shared.conversations import Record
from shared.registry import CachedRegistry
from shared.settings import Settings

_TAGS = ["Conversations"]
_TOOLS = "tools"


class CreateConversation(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/conversations`. `model` or `agent` may say in advance who will answer.

    `items` are what was said before the first turn.
    """

    metadata: dict[str, str] | None = None
    items: list[dict[str, Any]] | None = None
    model: str | None = None
    agent: str | None = None


class UpdateConversation(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/conversations/{id}`: the metadata that replaces what was there."""

    metadata: dict[str, str] | None


class ConversationInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What only Backline can say of a conversation. Times are in seconds since the epoch."""

    agent: str | None
    claude_model: str | None
    session_id: str | None
    turns: int
    cost_usd: float
    updated_at: int


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in OpenAI's shape."""

    id: str
    created_at: int
    metadata: dict[str, str]
    backline: ConversationInfo
    object: Literal["conversation"] = "conversation"


@post("/v1/conversations", status_code=200, tags=_TAGS, opt=RUN)
async def create_conversation(
    request: Request[Any, Any, Any],
    tenant: str,
    conversations: Conversations,
    registry: CachedRegistry,
    settings: Settings,
) -> Conversation:
    """Begin an empty conversation, to be named as `conversation_id` of chat completions."""
    body, _ = decode_body(await request.body() or b"{}", CreateConversation)
    items = read_items(body.items or [])
    record = await begin(body, tenant, conversations, registry, settings)
    if items:
        await conversations.add(tenant, record.id, items)
    return conversation_of(record)


@get("/v1/conversations", tags=_TAGS, opt=READ)
async def list_conversations(
    tenant: str,
    conversations: Conversations,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "desc",
) -> ObjectList[Conversation]:
    """List conversations by last use. OpenAI has no such list."""
    page = await conversations.list_conversations(tenant, limit=limit, after=after, order=order)
    data = [conversation_of(record) for record in page.records]
    return page_of(data, [record.id for record in page.records], has_more=page.has_more)


@get("/v1/conversations/{conversation_id:str}", tags=_TAGS, opt=READ)
async def retrieve_conversation(
    conversation_id: str, tenant: str, conversations: Conversations
) -> Conversation:
    """Show a conversation."""
    return conversation_of(await conversations.conversation(tenant, conversation_id))


@post("/v1/conversations/{conversation_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def update_conversation(
    request: Request[Any, Any, Any], conversation_id: str, tenant: str, conversations: Conversations
) -> Conversation:
    """Replace a conversation's metadata."""
    body, _ = decode_body(await request.body(), UpdateConversation)
    metadata = checked_metadata(body.metadata)
    return conversation_of(await conversations.set_metadata(tenant, conversation_id, metadata))


@delete("/v1/conversations/{conversation_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_conversation(conversation_id: str, tenant: str, conversations: Conversations) -> Deleted:
    """Delete a conversation with its transcript, and end the process that holds it."""
    record = await conversations.conversation(tenant, conversation_id)
    await conversations.delete_conversation(tenant, record)
    return Deleted(record.id, "conversation.deleted")


async def begin(
    body: CreateConversation,
    tenant: str,
    conversations: Conversations,
    registry: CachedRegistry,
    settings: Settings,
) -> Record:
    """Begin a conversation with whom the body names; raises `ApiError` 404 for a model that is none.

    And 400 for a revision, which each turn names for itself.
    """
    name = body.model or body.agent
    choice = await choose(name, registry, settings.default_agent) if name else Choice(agent="")
    if choice.revision:
        said = "A conversation is with an agent: each of its turns names the revision it is to run."
        raise ApiError(400, said, param="model" if body.model else "agent", code="invalid_value")
    return await conversations.create(
        tenant, agent=choice.agent, model=choice.claude_model, metadata=checked_metadata(body.metadata)
    )


def conversation_of(record: Record) -> Conversation:
    """A conversation in OpenAI's shape."""
    return Conversation(
        id=record.id,
        created_at=record.created_ms // 1000,
        metadata=record.metadata,
        backline=ConversationInfo(
            agent=record.agent or None,
            claude_model=record.model,
            session_id=record.session or None,
            turns=record.turns,
            cost_usd=record.cost_usd,
            updated_at=record.updated_ms // 1000,
        ),
    )


def wants_tools(request: Request[Any, Any, Any], include: list[str] | None) -> bool:
    """Whether the agent's tools are asked for; OpenAI's Python SDK writes the list as `include[]`."""
    return _TOOLS in {*(include or ()), *request.query_params.getall("include[]", [])}
