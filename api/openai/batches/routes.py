"""`/v1/batches`: create, show, list, cancel. Whichever API has a batch's lease does the work."""

from __future__ import annotations

from typing import Any

from litestar import Request, get, post

from api.access import READ, RUN
from api.conversations import unknown_place
from api.decode import decode_body
from api.errors import ApiError
from api.openai.batches.service import Batches
from api.openai.batches.wire import BatchObject, CreateBatch, batch_object
from api.openai.files.wire import checked_expiry
from api.openai.pages import After, Limit, ObjectList, checked_metadata, page_of
from api.principal import Principal
from api.repeats import note_replay, repeat_of, repeat_refusals
from shared.batches.records import Batch, BatchSpec
from shared.conversations import UnknownPlaceError
from shared.settings import Settings

_TAGS = ["OpenAI"]


@post("/v1/batches", status_code=200, tags=_TAGS, opt=RUN)
async def create_batch(
    request: Request[Any, Any, Any], principal: Principal, batches: Batches, settings: Settings
) -> BatchObject:
    """Have the requests of a file executed, in their time."""
    body, _ = decode_body(await request.body(), CreateBatch)
    if body.endpoint not in batches.endpoints:
        supported = ", ".join(f"'{name}'" for name in batches.endpoints)
        said = f"Invalid value: '{body.endpoint[:100]}'. Supported values: {supported}."
        raise ApiError(400, said, param="endpoint", code="invalid_value")
    if body.completion_window != "24h":
        said = f"Invalid value: '{body.completion_window[:100]}'. Supported values: '24h'."
        raise ApiError(400, said, param="completion_window", code="invalid_value")
    after = body.output_expires_after
    spec = BatchSpec(
        endpoint=body.endpoint,
        input_file_id=body.input_file_id[:100],
        completion_window=body.completion_window,
        metadata=checked_metadata(body.metadata) if body.metadata is not None else None,
        output_ttl_s=checked_expiry(after.anchor, after.seconds, "output_expires_after") if after else None,
        key=principal.key,
    )
    repeat = await repeat_of(request, principal, settings)
    with repeat_refusals():
        batch, is_new = await batches.store.create(
            principal.tenant, spec, window_s=settings.batch_window_s, repeat=repeat
        )
    if is_new:
        batches.coordinator.ring()
    else:
        note_replay(request.scope["state"])
    return batch_object(batch)


@get("/v1/batches", tags=_TAGS, opt=READ)
async def list_batches(
    tenant: str, batches: Batches, limit: Limit = 20, after: After = ""
) -> ObjectList[BatchObject]:
    """List batches, newest first."""
    try:
        found, has_more = await batches.store.page(tenant, limit=limit, after=after)
    except UnknownPlaceError as error:
        raise unknown_place(after) from error
    return page_of([batch_object(one) for one in found], [one.id for one in found], has_more=has_more)


@get("/v1/batches/{batch_id:str}", tags=_TAGS, opt=READ)
async def retrieve_batch(batch_id: str, tenant: str, batches: Batches) -> BatchObject:
    """Show a batch, its counts as they are now."""
    return batch_object(await _find(batch_id, tenant, batches))


@post("/v1/batches/{batch_id:str}/cancel", status_code=200, tags=_TAGS, opt=RUN)
async def cancel_batch(batch_id: str, tenant: str, batches: Batches) -> BatchObject:
    """End a batch: what was done is kept, what is under way is stopped."""
    is_asked = await batches.store.cancel(tenant, batch_id)
    batch = await _find(batch_id, tenant, batches)
    if not is_asked:
        said = f"Cannot cancel a batch with status '{batch.status}'."
        raise ApiError(409, said, code="invalid_batch_status", is_retryable=False)
    return batch_object(batch)


async def _find(batch_id: str, tenant: str, batches: Batches) -> Batch:
    batch = await batches.store.get(tenant, batch_id)
    if batch is None:
        said = f"No batch found with id '{batch_id[:100]}'."
        raise ApiError(404, said, param="id", code="batch_not_found")
    return batch
