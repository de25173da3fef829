"""OpenAI's conversation items: what was said, and what a client adds to it or takes out of it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, delete, get, post

from api.access import READ, RUN
from api.conversations import Conversations, unknown_place
from api.decode import decode_body
from api.errors import ApiError
from api.openai.added import read_items
from api.openai.conversations import Conversation, conversation_of, wants_tools
from api.openai.items import Item, item_of, items_of
from api.openai.pages import After, Include, Limit, ObjectList, Sorted, page_of
from api.openai.removal import without_item

_TAGS = ["Conversations"]


class CreateItems(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/conversations/{id}/items`: messages with text, 20 at most."""

    items: list[dict[str, Any]]


@post("/v1/conversations/{conversation_id:str}/items", status_code=200, tags=_TAGS, opt=RUN)
async def create_items(
    request: Request[Any, Any, Any], conversation_id: str, tenant: str, conversations: Conversations
) -> ObjectList[Item]:
    """Add messages to a conversation, to be told to the model before the next turn's."""
    body, _ = decode_body(await request.body(), CreateItems)
    added = read_items(body.items)
    if not added:
        raise ApiError(400, "'items' must not be empty.", param="items", code="invalid_value")
    record = await conversations.conversation(tenant, conversation_id)
    await conversations.add(tenant, record.id, added)
    items: list[Item] = [item_of(item) for item in added]
    return page_of(items, [item.id for item in items], has_more=False)


@get("/v1/conversations/{conversation_id:str}/items", tags=_TAGS, opt=READ)
async def list_items(
    request: Request[Any, Any, Any],
    conversation_id: str,
    tenant: str,
    conversations: Conversations,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "desc",
    include: Include = None,
) -> ObjectList[Item]:
    """List what was said; with `include=tools` also the tools that the agent used."""
    items = await _items(conversation_id, tenant, conversations, with_tools=wants_tools(request, include))
    if order == "desc":
        items.reverse()
    ids = [item.id for item in items]
    if after and after not in ids:
        raise unknown_place(after)
    start = ids.index(after) + 1 if after else 0
    end = start + limit
    return page_of(items[start:end], ids[start:end], has_more=end < len(ids))


@get("/v1/conversations/{conversation_id:str}/items/{item_id:str}", tags=_TAGS, opt=READ)
async def retrieve_item(
    request: Request[Any, Any, Any],
    conversation_id: str,
    item_id: str,
    tenant: str,
    conversations: Conversations,
    include: Include = None,
) -> Item:
    """Show one item."""
    with_tools = wants_tools(request, include)
    for item in await _items(conversation_id, tenant, conversations, with_tools=with_tools):
        if item.id == item_id:
            return item
    raise _item_not_found(item_id)


@delete("/v1/conversations/{conversation_id:str}/items/{item_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_item(
    conversation_id: str, item_id: str, tenant: str, conversations: Conversations
) -> Conversation:
    """Take a message out of a conversation: the next turn's model does not see it."""
    record = await conversations.conversation(tenant, conversation_id)
    if not await conversations.take_back(tenant, record.id, item_id):
        removal = without_item(await conversations.entries(tenant, record), item_id)
        if removal is None:
            raise _item_not_found(item_id)
        await conversations.rewrite(tenant, record, removal.entries, removal.rewrite)
    return conversation_of(await conversations.conversation(tenant, conversation_id))


async def _items(
    conversation_id: str, tenant: str, conversations: Conversations, *, with_tools: bool
) -> list[Item]:
    """What the model has been told, then what waits for the next turn."""
    record = await conversations.conversation(tenant, conversation_id)
    told = items_of(await conversations.entries(tenant, record), include_tools=with_tools)
    return [*told, *map(item_of, await conversations.waiting(tenant, record.id))]


def _item_not_found(item_id: str) -> ApiError:
    said = f"There is no item with the id '{item_id[:100]}' in this conversation."
    return ApiError(404, said, param="item_id", code="item_not_found")
