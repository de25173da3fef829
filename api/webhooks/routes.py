"""`/v1/webhooks`: endpoints that hear how background responses and batches ended.

OpenAI's own path is `/v1/webhook_endpoints`, which its SDKs ask; both lead here.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from litestar import Request, delete, get, post

from api.access import READ, RUN
from api.conversations import unknown_place
from api.decode import decode_body
from api.openai.pages import After, Deleted, Limit, ObjectList, T, page_of
from api.webhooks.service import Webhooks
from api.webhooks.wire import (
    CreateWebhook,
    DeliveryObject,
    RotateSecret,
    TriedWebhook,
    TryWebhook,
    UpdateWebhook,
    WebhookEndpoint,
    endpoint_of,
)
from shared.webhooks.records import EVENT_TYPES

_TAGS = ["Webhooks"]
_ALL = ["/v1/webhooks", "/v1/webhook_endpoints"]
_ONE = [f"{path}/{{webhook_id:str}}" for path in _ALL]
_REDELIVER = "/v1/webhooks/{webhook_id:str}/deliveries/{event_id:str}/redeliver"
_Request = Request[Any, Any, Any]


class EventTypeList(msgspec.Struct, frozen=True):
    """The types of events that an endpoint can ask for."""

    data: list[str]
    object: Literal["list"] = "list"


@get("/v1/webhook_event_types", tags=_TAGS, opt=READ, sync_to_thread=False)
def list_event_types() -> EventTypeList:
    """List the types of events that there are."""
    return EventTypeList(list(EVENT_TYPES))


@post(_ALL, status_code=200, tags=_TAGS, opt=RUN)
async def create_webhook(request: _Request, tenant: str, webhooks: Webhooks) -> WebhookEndpoint:
    """Make an endpoint. Its secret is in this answer and nowhere else."""
    body, _ = decode_body(await request.body(), CreateWebhook)
    return endpoint_of(await webhooks.create(tenant, body), with_secret=True)


@get(_ALL, tags=_TAGS, opt=READ)
async def list_webhooks(
    tenant: str, webhooks: Webhooks, limit: Limit = 20, after: After = ""
) -> ObjectList[WebhookEndpoint]:
    """List endpoints, newest first."""
    found = [endpoint_of(webhook) for webhook in await webhooks.all(tenant)]
    return _page(found, [one.id for one in found], limit, after)


@get(_ONE, tags=_TAGS, opt=READ)
async def retrieve_webhook(webhook_id: str, tenant: str, webhooks: Webhooks) -> WebhookEndpoint:
    """Show an endpoint."""
    return endpoint_of(await webhooks.get(tenant, webhook_id))


@post(_ONE, status_code=200, tags=_TAGS, opt=RUN)
async def update_webhook(
    webhook_id: str, request: _Request, tenant: str, webhooks: Webhooks
) -> WebhookEndpoint:
    """Change an endpoint, or enable it again."""
    body, _ = decode_body(await request.body(), UpdateWebhook)
    return endpoint_of(await webhooks.update(tenant, webhook_id, body))


@delete(_ONE, status_code=200, tags=_TAGS, opt=RUN)
async def delete_webhook(webhook_id: str, tenant: str, webhooks: Webhooks) -> Deleted:
    """Delete an endpoint; what waits for it is not delivered."""
    await webhooks.delete(tenant, webhook_id)
    return Deleted(webhook_id, "webhook_endpoint.deleted")


@post([f"{path}/rotate_secret" for path in _ONE], status_code=200, tags=_TAGS, opt=RUN)
async def rotate_webhook_secret(
    webhook_id: str, request: _Request, tenant: str, webhooks: Webhooks
) -> WebhookEndpoint:
    """Give an endpoint a new secret; deliveries may be signed with the old one too for a day."""
    body, _ = decode_body(await request.body() or b"{}", RotateSecret)
    rotated = await webhooks.rotate(tenant, webhook_id, keep_old=body.keep_old_secret_active_for_24_hours)
    return endpoint_of(rotated, with_secret=True)


@post([f"{path}/test" for path in _ONE], status_code=200, tags=_TAGS, opt=RUN)
async def try_webhook(webhook_id: str, request: _Request, tenant: str, webhooks: Webhooks) -> TriedWebhook:
    """Send a sample event to an endpoint, now and once."""
    body, _ = decode_body(await request.body() or b"{}", TryWebhook)
    return await webhooks.test(tenant, webhook_id, body.event_type)


@get("/v1/webhooks/{webhook_id:str}/deliveries", tags=_TAGS, opt=READ)
async def list_deliveries(
    webhook_id: str, tenant: str, webhooks: Webhooks, limit: Limit = 20, after: After = ""
) -> ObjectList[DeliveryObject]:
    """List the newest deliveries to an endpoint, with their attempts."""
    found = await webhooks.deliveries(tenant, webhook_id)
    return _page(found, [one.id for one in found], limit, after)


@post(_REDELIVER, status_code=200, tags=_TAGS, opt=RUN)
async def redeliver(webhook_id: str, event_id: str, tenant: str, webhooks: Webhooks) -> DeliveryObject:
    """Deliver an event once more, under the same id."""
    return await webhooks.redeliver(tenant, webhook_id, event_id)


def _page(found: list[T], ids: list[str], limit: int, after: str) -> ObjectList[T]:
    if after and after not in ids:
        raise unknown_place(after)
    start = ids.index(after) + 1 if after else 0
    end = start + limit
    return page_of(found[start:end], ids[start:end], has_more=end < len(found))
