"""Stored chat completions (`store: true`): list, show, their messages, metadata, and the end of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, delete, get, post
from msgspec import UNSET, UnsetType

from api.access import READ, RUN
from api.conversations import unknown_place
from api.decode import decode_body
from api.errors import ApiError
from api.openai.completion import ChatCompletion
from api.openai.pages import After, Deleted, Limit, ObjectList, Sorted, checked_metadata, page_of
from api.runs import Runs
from shared.conversations import UnknownPlaceError
from shared.stored import ObjectStore

_TAGS = ["OpenAI"]
_ID = re.compile(r"chatcmpl-([0-9a-f]{44})")
_METADATA = re.compile(r"metadata\[(?P<key>[^\]]{1,64})\]")


class StoredCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A completion and the messages it answers, as they were sent."""

    completion: ChatCompletion
    messages: list[dict[str, Any]]


class UpdateCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions/{id}`: the metadata that replaces what was there."""

    metadata: dict[str, str] | None


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a stored completion, with an id of its own. Parts stand in `content_parts`."""

    id: str
    role: str
    content: str | None
    refusal: str | None = None
    content_parts: list[dict[str, Any]] | None = None
    name: str | UnsetType = UNSET
    tool_calls: list[dict[str, Any]] | UnsetType = UNSET
    tool_call_id: str | UnsetType = UNSET


Completions = ObjectStore[StoredCompletion]


@get("/v1/chat/completions", tags=_TAGS, opt=READ)
async def list_completions(
    request: Request[Any, Any, Any],
    tenant: str,
    completions: Completions,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "asc",
    model: str | None = None,
) -> ObjectList[ChatCompletion]:
    """List stored completions by age; `model` and `metadata[key]` choose among them."""
    wanted = _wanted_metadata(request.query_params)
    found: list[ChatCompletion] = []
    try:
        async for stored in completions.all(tenant, after=after, order=order):
            if _is_wanted(stored.value.completion, model, wanted):
                found.append(stored.value.completion)
            if len(found) > limit:
                break
    except UnknownPlaceError as error:
        raise unknown_place(after) from error
    data = found[:limit]
    return page_of(data, [one.id for one in data], has_more=len(found) > limit)


@get("/v1/chat/completions/{completion_id:str}", tags=_TAGS, opt=READ)
async def retrieve_completion(completion_id: str, tenant: str, completions: Completions) -> ChatCompletion:
    """Show a stored completion."""
    return (await _find(completion_id, tenant, completions)).completion


@post("/v1/chat/completions/{completion_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def update_completion(
    completion_id: str, request: Request[Any, Any, Any], tenant: str, completions: Completions
) -> ChatCompletion:
    """Replace a stored completion's metadata."""
    body, _ = decode_body(await request.body(), UpdateCompletion)
    stored = await _find(completion_id, tenant, completions)
    completion = msgspec.structs.replace(stored.completion, metadata=checked_metadata(body.metadata))
    changed = msgspec.structs.replace(stored, completion=completion)
    if not await completions.replace(tenant, completion_id, changed):
        raise completion_not_found(completion_id)
    return completion


@delete("/v1/chat/completions/{completion_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_completion(completion_id: str, tenant: str, runs: Runs, completions: Completions) -> Deleted:
    """Stop a completion that is running, delete one that is stored."""
    match = _ID.fullmatch(completion_id)
    is_deleted = await completions.delete(tenant, completion_id)
    status = await runs.status(f"run_{match[1]}", tenant) if match else None
    if status is None and not is_deleted:
        raise completion_not_found(completion_id)
    is_stopped = status is not None and match is not None and await runs.stop(f"run_{match[1]}", status.agent)
    return Deleted(completion_id, "chat.completion.deleted", deleted=is_deleted or is_stopped)


@get("/v1/chat/completions/{completion_id:str}/messages", tags=_TAGS, opt=READ)
async def list_messages(
    completion_id: str,
    tenant: str,
    completions: Completions,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "asc",
) -> ObjectList[StoredMessage]:
    """List the messages that a stored completion answers."""
    stored = await _find(completion_id, tenant, completions)
    messages = [_message(f"{completion_id}-{index}", one) for index, one in enumerate(stored.messages)]
    if order == "desc":
        messages.reverse()
    ids = [message.id for message in messages]
    if after and after not in ids:
        raise unknown_place(after)
    start = ids.index(after) + 1 if after else 0
    data = messages[start : start + limit]
    return page_of(data, [one.id for one in data], has_more=start + limit < len(messages))


def completion_not_found(completion_id: str) -> ApiError:
    """The answer to an id that is not one of the tenant's completions."""
    said = f"There is no chat completion with the id '{completion_id[:100]}'."
    return ApiError(404, said, param="completion_id", code="completion_not_found")


def _wanted_metadata(query: Mapping[str, str]) -> dict[str, str]:
    """The metadata by which to choose; raises `ApiError` 400 for what only looks like it."""
    wanted: dict[str, str] = {}
    for name, value in query.items():
        if match := _METADATA.fullmatch(name):
            wanted[match["key"]] = value
        elif name.lower().startswith(("metadata", "meta[")):
            said = f"Invalid '{name[:100]}': to choose by metadata, write metadata[KEY]=VALUE."
            raise ApiError(400, said, param=name[:100], code="invalid_value")
    return wanted


async def _find(completion_id: str, tenant: str, completions: Completions) -> StoredCompletion:
    stored = await completions.get(tenant, completion_id) if _ID.fullmatch(completion_id) else None
    if stored is None:
        raise completion_not_found(completion_id)
    return stored.value


def _is_wanted(completion: ChatCompletion, model: str | None, metadata: dict[str, str]) -> bool:
    if model is not None and completion.model != model:
        return False
    pairs = completion.metadata or {}
    return all(pairs.get(key) == value for key, value in metadata.items())


def _message(message_id: str, sent: dict[str, Any]) -> StoredMessage:
    content = sent.get("content")
    is_parts = isinstance(content, list)
    return StoredMessage(
        id=message_id,
        role=str(sent.get("role", "user")),
        content=None if is_parts else content,
        content_parts=content if is_parts else None,
        refusal=sent.get("refusal"),
        name=sent.get("name") or UNSET,
        tool_calls=sent.get("tool_calls") or UNSET,
        tool_call_id=sent.get("tool_call_id") or UNSET,
    )
