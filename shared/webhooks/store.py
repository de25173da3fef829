"""Webhooks in Redis: a tenant's endpoints, and the deliveries that wait for them. Each method is one step."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.scripts import Scripts, Value
from shared.settings import Settings
from shared.webhooks import redis_keys as webhook_keys
from shared.webhooks.outbox import deliveries_ttl_ms
from shared.webhooks.records import OPERATORS, Delivery, EventType, Place, Webhook, new_secret

MOST_UNDER_WAY = 4
"""Deliveries to one endpoint at a time, of all API processes together."""
_LEASE_SLACK_S = 5.0
_TRIES = 20
_OVER = -1


class UnknownWebhookError(Exception):
    """The tenant has no endpoint of this id (any more)."""


class TooManyWebhooksError(Exception):
    """A tenant has as many endpoints as it may."""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to be made now, by whoever took it. `webhook` `None`: the operator's own endpoint."""

    place: Place
    event_id: str
    delivery: Delivery
    webhook: Webhook | None
    now_s: int


class WebhookStore:
    """Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._most = settings.max_webhooks
        self._lease_ms = int(1000 * (settings.webhook_timeout_s + _LEASE_SLACK_S))
        self._ttl_ms = deliveries_ttl_ms(settings)
        self._has_operators = settings.webhook_url is not None

    async def create(self, tenant: str, *, name: str, url: str, event_types: Sequence[EventType]) -> Webhook:
        """Make an endpoint with a secret of its own; raises `TooManyWebhooksError`."""
        now_s = await self.now_s()
        webhook = Webhook(
            id=f"we_{secrets.token_hex(16)}",
            name=name,
            url=url,
            event_types=tuple(dict.fromkeys(event_types)),
            secret=new_secret(),
            created=now_s,
            updated=now_s,
        )
        if await self._put(keys.owner(tenant), b"", webhook) < 0:
            raise TooManyWebhooksError
        return webhook

    async def get(self, tenant: str, webhook_id: str) -> Webhook:
        """One endpoint; raises `UnknownWebhookError`."""
        webhook, _ = await self._get(keys.owner(tenant), webhook_id)
        return webhook

    async def all(self, tenant: str) -> list[Webhook]:
        """A tenant's endpoints, the newest first."""
        found: Any = self._redis.hvals(webhook_keys.records(keys.owner(tenant)))
        webhooks = [_webhooks.decode(record) for record in await found]
        return sorted(webhooks, key=lambda webhook: (webhook.created, webhook.id), reverse=True)

    async def change(self, tenant: str, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        """Put what `change` makes of an endpoint in its place; raises `UnknownWebhookError`."""
        return await self._change(keys.owner(tenant), webhook_id, change)

    async def delete(self, tenant: str, webhook_id: str) -> None:
        """Delete an endpoint and what waits for it; raises `UnknownWebhookError`."""
        place = Place(keys.owner(tenant), webhook_id)
        names = [webhook_keys.records(place.owner), webhook_keys.OPEN, *_keys(place), _flight(place)]
        if not await self._scripts("webhook_delete", names, [webhook_id, str(place)]):
            raise UnknownWebhookError(webhook_id)

    async def deliveries(self, tenant: str, webhook_id: str) -> list[tuple[str, Delivery, int | None]]:
        """The newest deliveries by the ids of their events, and when each is tried next (s)."""
        place = Place(keys.owner(tenant), webhook_id)
        queue, deliveries, shown = _keys(place)
        found: Any = self._redis.zrevrange(shown, 0, -1)
        event_ids = await found
        if not event_ids:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hmget(deliveries, event_ids)
            for event_id in event_ids:
                pipe.zscore(queue, event_id)
            records, *due = await pipe.execute()
        return [
            (event_id.decode(), _deliveries.decode(record), int(at) // 1000 if at is not None else None)
            for event_id, record, at in zip(event_ids, records, due, strict=True)
            if record is not None
        ]

    async def redeliver(self, tenant: str, webhook_id: str, event_id: str) -> Delivery | None:
        """Deliver an event once more, with the whole schedule; `None` when it is not known (any more)."""
        place = Place(keys.owner(tenant), webhook_id)
        found: Any = self._redis.hget(webhook_keys.deliveries(str(place)), event_id)
        record = await found
        if record is None:
            return None
        delivery = msgspec.structs.replace(_deliveries.decode(record), state="pending", tries=0, error="")
        return delivery if await self.note(place, event_id, delivery, again_s=0) else None

    async def take(self, most: int) -> list[Taken]:
        """Take up to `most` deliveries that are due; whoever does not note them in time has lost them."""
        now_ms, *rows = await self._scripts(
            "webhook_take",
            [webhook_keys.OPEN],
            [
                *(most, MOST_UNDER_WAY, self._lease_ms, "" if self._has_operators else str(OPERATORS)),
                *(webhook_keys.records(""), webhook_keys.queue(""), webhook_keys.deliveries("")),
                webhook_keys.flight(""),
            ],
        )
        return [
            Taken(
                place=Place(*place.decode().split(":")),
                event_id=event_id.decode(),
                delivery=_deliveries.decode(delivery),
                webhook=_webhooks.decode(record) if record else None,
                now_s=now_ms // 1000,
            )
            for place, record, event_id, delivery in zip(*[iter(rows)] * 4, strict=True)
        ]

    async def note(
        self, place: Place, event_id: str, delivery: Delivery, *, again_s: float | None = None
    ) -> bool:
        """Note where a delivery stands, to be made again in `again_s` seconds; `False` when it is gone."""
        names = [webhook_keys.OPEN, *_keys(place), _flight(place)]
        again_ms = _OVER if again_s is None else int(again_s * 1000)
        args: list[Value] = [str(place), event_id, _encoder.encode(delivery), again_ms, self._ttl_ms]
        return bool(await self._scripts("webhook_note", names, args))

    async def disable(self, place: Place, now_s: int) -> None:
        """Send nothing more to an endpoint that said that it is gone."""
        await self._change(
            place.owner, place.webhook_id, lambda webhook: msgspec.structs.replace(webhook, disabled=now_s)
        )

    async def now_s(self) -> int:
        """Redis's clock, in seconds."""
        seconds, _ = await self._redis.time()
        return int(seconds)

    async def _change(self, owner: str, webhook_id: str, change: Callable[[Webhook], Webhook]) -> Webhook:
        for _ in range(_TRIES):
            old, data = await self._get(owner, webhook_id)
            new = change(old)
            if new == old or await self._put(owner, data, new):
                return new
        raise UnknownWebhookError(webhook_id)

    async def _get(self, owner: str, webhook_id: str) -> tuple[Webhook, bytes]:
        found: Any = self._redis.hget(webhook_keys.records(owner), webhook_id)
        data = await found
        if data is None:
            raise UnknownWebhookError(webhook_id)
        return _webhooks.decode(data), data

    async def _put(self, owner: str, data: bytes, new: Webhook) -> int:
        args: list[Value] = [new.id, data, _encoder.encode(new), self._most]
        return int(await self._scripts("webhook_put", [webhook_keys.records(owner)], args))


def _keys(place: Place) -> list[str]:
    name = str(place)
    return [webhook_keys.queue(name), webhook_keys.deliveries(name), webhook_keys.shown(name)]


def _flight(place: Place) -> str:
    return webhook_keys.flight(str(place))


_encoder = msgspec.json.Encoder()
_webhooks = msgspec.json.Decoder(Webhook)
_deliveries = msgspec.json.Decoder(Delivery)
