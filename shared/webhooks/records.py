"""What a webhook is: an endpoint of a tenant, the events it wants, and what became of each delivery."""

from __future__ import annotations

import base64
import secrets
from typing import Annotated, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

EventType = Literal[
    "response.completed",
    "response.failed",
    "response.cancelled",
    "response.incomplete",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
]
"""OpenAI's names of what can be told: how a background response or a batch ended."""
EVENT_TYPES: tuple[str, ...] = get_args(EventType)

SECRET_PREFIX = "whsec_"  # noqa: S105 - how the secrets begin (standardwebhooks.com)
_SECRET_BYTES = 32
_SHOWN = 4

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
Name = Annotated[str, Meta(max_length=200)]


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint as it is kept. Times are in seconds since the epoch, by Redis's clock; 0 is never.

    After a rotation deliveries are signed with `old_secret` too, until `old_until`. `event_types` has one
    entry at least: Lua would write an empty list as an object.
    """

    id: str
    name: str
    url: str
    event_types: tuple[EventType, ...]
    secret: str
    created: int
    updated: int
    disabled: int = 0
    old_secret: str = ""
    old_until: int = 0

    def secrets(self, now_s: float) -> list[str]:
        """The secrets to sign with, the newest first."""
        return [self.secret, self.old_secret] if self.old_secret and now_s < self.old_until else [self.secret]


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One try: when it began (s), how long it took (s), and the status, or why there is none."""

    at: int
    took_s: float
    status_code: int | None = None
    error: str = ""


State = Literal["pending", "delivered", "failed"]


class Delivery(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event on its way to one endpoint. `tries` counts those since it was last asked for.

    The script that queues it writes the first three fields (`shared/lua/webhooks.lua`).
    """

    type: str
    object_id: str
    created: int
    state: State = "pending"
    tries: int = 0
    attempts: list[Attempt] = []
    error: str = ""
    """Why it was given up, when not by the last attempt."""


class Place(NamedTuple):
    """An endpoint as part of names: its tenant as `redis_keys.owner` gives it, and its id."""

    owner: str
    webhook_id: str

    def __str__(self) -> str:
        return f"{self.owner}:{self.webhook_id}"


OPERATORS = Place("operator", "operator")
"""The endpoint of the settings, to which all tenants' events go. No tenant's part of names is like it."""


class _Subject(msgspec.Struct, frozen=True):
    id: str


class _Event(msgspec.Struct, frozen=True, kw_only=True):
    """The payload, in OpenAI's shape."""

    id: str
    object: Literal["event"] = "event"
    created_at: int
    type: str
    data: _Subject


def payload(event_id: str, delivery: Delivery) -> bytes:
    """What is sent: the same bytes at each try."""
    event = _Event(
        id=event_id,
        created_at=delivery.created,
        type=delivery.type,
        data=_Subject(delivery.object_id),
    )
    return msgspec.json.encode(event)


def new_event_id() -> str:
    """An id for an event, which is also the `webhook-id` of all its deliveries."""
    return f"evt_{secrets.token_hex(16)}"


def new_secret() -> str:
    """A secret of 32 random bytes, as Standard Webhooks writes them."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Whether `text` is such a secret, of 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(SECRET_PREFIX) and 24 <= len(key) <= 64


def hint_of(secret: str) -> str:
    """So much of a secret that its owner knows it again."""
    return f"{SECRET_PREFIX}…{secret[-_SHOWN:]}"
