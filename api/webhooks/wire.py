"""Webhooks as they are shown: endpoints in OpenAI's shape, their deliveries in Backline's own."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from shared.webhooks.records import Delivery, EventType, Name, State, Url, Webhook, hint_of

EventTypes = Annotated[list[EventType], Meta(min_length=1)]


class CreateWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/webhooks`: where events go, and which."""

    url: Url
    event_types: EventTypes
    name: Name = ""


class UpdateWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/webhooks/{webhook_id}`: what is to change. `enabled` is Backline's own."""

    url: Url | None = None
    event_types: EventTypes | None = None
    name: Name | None = None
    enabled: bool | None = None


class RotateSecret(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST …/rotate_secret`."""

    keep_old_secret_active_for_24_hours: bool = False


class TryWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST …/test`: the type of the sample event; if not given, the first that is wanted."""

    event_type: EventType | None = None


class WebhookEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint; times are in seconds. `signing_secret` comes with a new one only."""

    id: str
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[EventType]
    signing_secret_hint: str
    disabled_at: int | None
    signing_secret: str | UnsetType = UNSET
    object: Literal["webhook_endpoint"] = "webhook_endpoint"


class TriedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint answered to a sample event."""

    webhook_endpoint_id: str
    event_type: EventType
    status_code: int
    success: Literal[True] = True
    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"


class AttemptObject(msgspec.Struct, frozen=True, kw_only=True):
    """One try: `error` says why there is no status."""

    attempted_at: int
    seconds: float
    status_code: int | None
    error: str | None


class DeliveryObject(msgspec.Struct, frozen=True, kw_only=True):
    """An event on its way to an endpoint; `id` is the event's, and the `webhook-id` of each try."""

    id: str
    event_type: str
    object_id: str
    created_at: int
    status: State
    error: str | None
    next_attempt_at: int | None
    attempts: list[AttemptObject]
    object: Literal["webhook_delivery"] = "webhook_delivery"


def endpoint_of(webhook: Webhook, *, with_secret: bool = False) -> WebhookEndpoint:
    """An endpoint as it may be shown."""
    return WebhookEndpoint(
        id=webhook.id,
        created_at=webhook.created,
        updated_at=webhook.updated,
        name=webhook.name,
        url=webhook.url,
        event_types=list(webhook.event_types),
        signing_secret_hint=hint_of(webhook.secret),
        disabled_at=webhook.disabled or None,
        signing_secret=webhook.secret if with_secret else UNSET,
    )


def delivery_of(event_id: str, delivery: Delivery, next_at: int | None) -> DeliveryObject:
    """A delivery as it is shown; `next_at` is when it is tried next (s)."""
    return DeliveryObject(
        id=event_id,
        event_type=delivery.type,
        object_id=delivery.object_id,
        created_at=delivery.created,
        status=delivery.state,
        error=delivery.error or None,
        next_attempt_at=next_at,
        attempts=[
            AttemptObject(
                attempted_at=attempt.at,
                seconds=attempt.took_s,
                status_code=attempt.status_code,
                error=attempt.error or None,
            )
            for attempt in delivery.attempts
        ],
    )
