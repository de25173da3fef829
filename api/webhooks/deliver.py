"""Who delivers events: every API process, each delivery by one at a time, by a lease.

All it knows stands in Redis. A delivery whose process died is another's when the lease has lapsed, and goes
out once more with the same `webhook-id`: at least once, never lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

import msgspec
import structlog
from redis.exceptions import RedisError

from api.webhooks.send import MOST_AT_ONCE, Sender
from shared.settings import Settings
from shared.tasks import end_tasks
from shared.webhooks.outbox import JITTER
from shared.webhooks.records import OPERATORS, Attempt, Delivery, payload
from shared.webhooks.store import Taken, UnknownWebhookError, WebhookStore

_POLL_S = 0.5
_MOST_ATTEMPTS = 20
"""Attempts that are remembered of a delivery."""
_GONE = 410

_log = structlog.get_logger(__name__)


DeliveryOutcome = Literal["delivered", "again", "failed"]


class Dispatcher:
    """Delivers while `run` is running; `note` is told what came of each try."""

    def __init__(
        self,
        store: WebhookStore,
        sender: Sender,
        settings: Settings,
        note: Callable[[DeliveryOutcome], None] | None = None,
    ) -> None:
        self._note = note or (lambda _: None)
        self._store = store
        self._sender = sender
        self._retries_s = settings.webhook_retries_s
        self._operators = (settings.webhook_url or "", [settings.webhook_secret or ""])
        self._bell = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Take deliveries and make them until cancelled; what is under way then is due again by its lease."""
        try:
            while True:
                self._bell.clear()
                with suppress(RedisError, OSError):
                    await self._begin()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._bell.wait()
        finally:
            await end_tasks(list(self._tasks))

    async def _begin(self) -> None:
        room = MOST_AT_ONCE - len(self._tasks)
        if not room:
            return
        for taken in await self._store.take(room):
            task = asyncio.create_task(self._deliver(taken))
            self._tasks.add(task)
            task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._bell.set()  # there is room for another
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("webhook_interrupted", exc_info=error)

    async def _deliver(self, taken: Taken) -> None:
        with structlog.contextvars.bound_contextvars(
            webhook_id=taken.place.webhook_id, event_id=taken.event_id
        ):
            attempt = await self._attempt(taken)
            delivery, again_s = self._judged(taken.delivery, attempt)
            try:
                if attempt is not None and attempt.status_code == _GONE and taken.webhook is not None:
                    with suppress(UnknownWebhookError):
                        await self._store.disable(taken.place, taken.now_s)
                await self._store.note(taken.place, taken.event_id, delivery, again_s=again_s)
            except (RedisError, OSError) as error:  # then it is made again
                _log.warning("webhook_not_noted", error=str(error))
            self._note("again" if again_s is not None else _outcome_of(delivery))
            _tell(delivery, again_s)

    async def _attempt(self, taken: Taken) -> Attempt | None:
        """Try once; `None` when there is nobody to send to."""
        content = payload(taken.event_id, taken.delivery)
        if taken.place == OPERATORS:
            url, signing = self._operators
            return await self._sender.send(
                url, signing, taken.event_id, content, taken.now_s, is_operators=True
            )
        webhook = taken.webhook
        if webhook is None or webhook.disabled:
            return None
        signing = webhook.secrets(taken.now_s)
        return await self._sender.send(webhook.url, signing, taken.event_id, content, taken.now_s)

    def _judged(self, delivery: Delivery, attempt: Attempt | None) -> tuple[Delivery, float | None]:
        """Where a delivery stands after an attempt, and in how many seconds the next one is."""
        if attempt is None:
            said = "The endpoint is disabled."
            return msgspec.structs.replace(delivery, state="failed", error=said), None
        attempts = [*delivery.attempts, attempt][-_MOST_ATTEMPTS:]
        delivery = msgspec.structs.replace(delivery, attempts=attempts, tries=delivery.tries + 1)
        status = attempt.status_code
        if status is not None and 200 <= status < 300:
            return msgspec.structs.replace(delivery, state="delivered"), None
        if status == _GONE or delivery.tries > len(self._retries_s):
            return msgspec.structs.replace(delivery, state="failed"), None
        wait_s = self._retries_s[delivery.tries - 1]
        return delivery, wait_s * random.uniform(1, 1 + JITTER)  # noqa: S311 - no secret hangs on it


def _outcome_of(delivery: Delivery) -> DeliveryOutcome:
    return "delivered" if delivery.state == "delivered" else "failed"


def _tell(delivery: Delivery, again_s: float | None) -> None:
    """Log where a delivery stands; never its URL, which may hold a secret."""
    last = delivery.attempts[-1] if delivery.attempts else None
    said = {
        "type": delivery.type,
        "tries": delivery.tries,
        "status": last.status_code if last is not None else None,
        "error": delivery.error or (last.error if last is not None else ""),
    }
    if delivery.state == "delivered":
        _log.info("webhook_delivered", **said)
    elif delivery.state == "failed":
        _log.warning("webhook_given_up", **said)
    else:
        _log.info("webhook_again", in_s=round(again_s or 0, 1), **said)
