"""Stored responses (`store`, the default): show, stream again, cancel, list their input, delete."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post
from litestar import Response as HttpResponse
from litestar.params import Parameter
from litestar.response import Stream

from api.access import READ, RUN
from api.conversations import unknown_place
from api.errors import ApiError
from api.openai.pages import After, Deleted, Limit, ObjectList, Sorted, page_of
from api.openai.responses.create import seen_in, told_again
from api.openai.responses.objects import Response
from api.openai.responses.store import Responses, StoredResponse
from api.runs import Runs
from shared.settings import Settings

_TAGS = ["OpenAI"]
_CANCEL_S = 5.0

StartingAfter = Annotated[
    int | None, Parameter(ge=0, description="Stream only the events behind this sequence number.")
]
Streamed = Annotated[bool, Parameter(description="Stream the response's events, from its first.")]


@get("/v1/responses/{response_id:str}", tags=_TAGS, opt=READ)
async def retrieve_response(
    response_id: str,
    request: Request[Any, Any, Any],
    tenant: str,
    runs: Runs,
    responses: Responses,
    settings: Settings,
    stream: Streamed = False,
    starting_after: StartingAfter = None,
) -> HttpResponse[bytes] | Stream:
    """Show a stored response, or stream it: the same events, whoever asks, however often."""
    stored = await responses.find(tenant, response_id)
    if not stream:
        return _shown(stored.response)
    after = seen_in(request) if starting_after is None else starting_after
    return told_again(stored, tenant, runs, responses, settings, after=after)


@post("/v1/responses/{response_id:str}/cancel", status_code=200, tags=_TAGS, opt=RUN)
async def cancel_response(
    response_id: str, tenant: str, runs: Runs, responses: Responses
) -> HttpResponse[bytes]:
    """Cancel a background response, and show it; one that has ended is shown as it is."""
    stored = await responses.find(tenant, response_id)
    if not stored.response.background:
        said = "Only a response that was created with 'background' can be cancelled."
        raise ApiError(400, said, param="response_id", code="invalid_value")
    if not stored.response.is_over:
        await runs.stop(stored.run.id, stored.run.agent)
        stored = await _ended(stored, tenant, runs, responses)
    return _shown(stored.response)


@delete("/v1/responses/{response_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_response(response_id: str, tenant: str, responses: Responses) -> Deleted:
    """Delete a stored response; one under way is stopped."""
    await responses.delete(tenant, await responses.find(tenant, response_id))
    return Deleted(response_id, "response")


@get("/v1/responses/{response_id:str}/input_items", tags=_TAGS, opt=READ)
async def list_input_items(
    response_id: str,
    tenant: str,
    responses: Responses,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "desc",
) -> ObjectList[dict[str, Any]]:
    """List the items that a stored response was asked with."""
    items = list((await responses.find(tenant, response_id)).input)
    if order == "desc":
        items.reverse()
    ids = [str(item["id"]) for item in items]
    if after and after not in ids:
        raise unknown_place(after)
    start = ids.index(after) + 1 if after else 0
    data = items[start : start + limit]
    return page_of(data, ids[start : start + limit], has_more=start + limit < len(items))


async def _ended(stored: StoredResponse, tenant: str, runs: Runs, responses: Responses) -> StoredResponse:
    """The response once its run has ended, within a bound: the worker interrupts the CLI first."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_S), aclosing(runs.follow(stored.run, tick_s=1.0)) as batches:
            async for _ in batches:
                pass
    return await responses.find(tenant, stored.response.id)


def _shown(response: Response) -> HttpResponse[bytes]:
    return HttpResponse(msgspec.json.encode(response), media_type="application/json")
