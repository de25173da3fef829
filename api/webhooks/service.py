"""What can be done with a tenant's webhooks, for the API's routes and the command alike."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from api.errors import ApiError
from api.outward import OutwardError
from api.webhooks.send import Sender
from api.webhooks.wire import CreateWebhook, DeliveryObject, TriedWebhook, UpdateWebhook, delivery_of
from shared.settings import Settings
from shared.webhooks.records import Delivery, EventType, Webhook, new_event_id, new_secret, payload
from shared.webhooks.store import TooManyWebhooksError, UnknownWebhookError, WebhookStore

_OVERLAP_S = 24 * 3600


class Webhooks:
    """Raises `ApiError`; and `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, store: WebhookStore, sender: Sender, settings: Settings) -> None:
        self._store = store
        self._sender = sender
        self._most = settings.max_webhooks

    async def create(self, tenant: str, wish: CreateWebhook) -> Webhook:
        """Make an endpoint."""
        await self._check(wish.url)
        try:
            return await self._store.create(
                tenant, name=wish.name, url=wish.url, event_types=wish.event_types
            )
        except TooManyWebhooksError as error:
            said = f"There may be {self._most} webhooks at a time."
            raise ApiError(400, said, code="too_many_webhooks") from error

    async def all(self, tenant: str) -> list[Webhook]:
        """All endpoints, the newest first."""
        return await self._store.all(tenant)

    async def get(self, tenant: str, webhook_id: str) -> Webhook:
        """One endpoint."""
        try:
            return await self._store.get(tenant, webhook_id)
        except UnknownWebhookError as error:
            raise _not_found(webhook_id) from error

    async def update(self, tenant: str, webhook_id: str, wish: UpdateWebhook) -> Webhook:
        """Change an endpoint; one that was disabled may be enabled again."""
        await self.get(tenant, webhook_id)
        if wish.url is not None:
            await self._check(wish.url)
        now_s = await self._store.now_s()

        def change(old: Webhook) -> Webhook:
            new = msgspec.structs.replace(
                old,
                url=old.url if wish.url is None else wish.url,
                name=old.name if wish.name is None else wish.name,
                event_types=tuple(dict.fromkeys(wish.event_types or old.event_types)),
                disabled=old.disabled if wish.enabled is None else 0 if wish.enabled else now_s,
            )
            return old if new == old else msgspec.structs.replace(new, updated=now_s)

        return await self._changed(tenant, webhook_id, change)

    async def rotate(self, tenant: str, webhook_id: str, *, keep_old: bool) -> Webhook:
        """Give an endpoint a new secret; for a day deliveries may be signed with the old one too."""
        now_s = await self._store.now_s()
        return await self._changed(
            tenant,
            webhook_id,
            lambda old: msgspec.structs.replace(
                old,
                secret=new_secret(),
                updated=now_s,
                old_secret=old.secret if keep_old else "",
                old_until=now_s + _OVERLAP_S if keep_old else 0,
            ),
        )

    async def delete(self, tenant: str, webhook_id: str) -> None:
        """Delete an endpoint and what waits for it."""
        try:
            await self._store.delete(tenant, webhook_id)
        except UnknownWebhookError as error:
            raise _not_found(webhook_id) from error

    async def test(self, tenant: str, webhook_id: str, event_type: EventType | None) -> TriedWebhook:
        """Send a sample event now, once, and give what the endpoint answered."""
        webhook = await self.get(tenant, webhook_id)
        kind: EventType = event_type or webhook.event_types[0]
        now_s = await self._store.now_s()
        sample = Delivery(type=kind, object_id=f"{'resp' if kind[0] == 'r' else 'batch'}_test", created=now_s)
        event_id = new_event_id()
        signing = webhook.secrets(now_s)
        tried = await self._sender.send(webhook.url, signing, event_id, payload(event_id, sample), now_s)
        if tried.status_code is None:
            said = f"The endpoint was not reached: {tried.error}"
            raise ApiError(400, said, code="webhook_not_reached", is_retryable=False)
        return TriedWebhook(webhook_endpoint_id=webhook_id, event_type=kind, status_code=tried.status_code)

    async def deliveries(self, tenant: str, webhook_id: str) -> list[DeliveryObject]:
        """The newest deliveries to an endpoint."""
        await self.get(tenant, webhook_id)
        return [delivery_of(*found) for found in await self._store.deliveries(tenant, webhook_id)]

    async def redeliver(self, tenant: str, webhook_id: str, event_id: str) -> DeliveryObject:
        """Deliver an event once more, whatever became of it."""
        webhook = await self.get(tenant, webhook_id)
        if webhook.disabled:
            said = "The webhook is disabled; enable it first."
            raise ApiError(409, said, code="webhook_disabled", is_retryable=False)
        delivery = await self._store.redeliver(tenant, webhook_id, event_id)
        if delivery is None:
            said = f"Delivery with id '{event_id[:100]}' not found."
            raise ApiError(404, said, param="event_id", code="delivery_not_found")
        return delivery_of(event_id, delivery, await self._store.now_s())

    async def _changed(self, tenant: str, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        try:
            return await self._store.change(tenant, webhook_id, change)
        except UnknownWebhookError as error:
            raise _not_found(webhook_id) from error

    async def _check(self, url: str) -> None:
        try:
            await self._sender.check(url)
        except OutwardError as error:
            raise ApiError(400, f"Invalid 'url'. {error}", param="url", code="invalid_value") from error


def _not_found(webhook_id: str) -> ApiError:
    said = f"Webhook endpoint with id '{webhook_id[:100]}' not found."
    return ApiError(404, said, param="webhook_id", code="webhook_not_found")
