"""What a script that ends something is given, so that it queues the event of it in the same step."""

from __future__ import annotations

import msgspec

from shared.settings import Settings
from shared.webhooks import redis_keys as webhook_keys
from shared.webhooks.records import new_event_id

MOST_WAITING = 10_000
"""Deliveries that may wait for one endpoint; what comes beyond is noted as failed."""
MOST_SHOWN = 100
"""Deliveries of an endpoint that are still shown once they are over."""
JITTER = 0.2
"""A wait is longer by up to this part of itself."""
_KEPT_MS = 7 * 24 * 3_600_000


class _Notice(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `tell_webhooks` (`shared/lua/webhooks.lua`)."""

    owner: str
    event: str
    type: str
    object: str
    created: int
    """When it happened (s); 0: now."""
    with_operator: bool
    ttl_ms: int
    most_waiting: int = MOST_WAITING
    most_shown: int = MOST_SHOWN
    open: str = webhook_keys.OPEN
    webhooks: str = webhook_keys.records("")
    queue: str = webhook_keys.queue("")
    deliveries: str = webhook_keys.deliveries("")
    shown: str = webhook_keys.shown("")


class Outbox:
    """Makes notices of events. With `settings.webhook_url` they are for the operator's endpoint too."""

    def __init__(self, settings: Settings) -> None:
        self._with_operator = settings.webhook_url is not None
        self._ttl_ms = deliveries_ttl_ms(settings)

    def notice(self, owner: str, event_type: str, object_id: str, *, created: int = 0) -> bytes:
        """The argument for a script; `owner` is the tenant as it stands in names, `created` in seconds."""
        return msgspec.json.encode(
            _Notice(
                owner=owner,
                event=new_event_id(),
                type=event_type,
                object=object_id,
                created=created,
                with_operator=self._with_operator,
                ttl_ms=self._ttl_ms,
            )
        )


def deliveries_ttl_ms(settings: Settings) -> int:
    """How long an endpoint's deliveries are kept after the last of them: past the last try, and a week."""
    return _KEPT_MS + int(1000 * (1 + JITTER) * sum(settings.webhook_retries_s))
