"""`backline webhooks`: make, list, delete and try webhook endpoints, in Redis itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from cli.errors import CommandError
from cli.redis_in_use import Data, RedisUrl, on_redis
from cli.tables import Json, print_json, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from api.webhooks.service import Webhooks
    from shared.settings import Settings

webhooks = App(name="webhooks", help="Webhook endpoints: make, list, delete, test.")

Names = Annotated[list[str] | None, Parameter(negative=())]
_TENANT = "default"


@webhooks.command
def create(
    url: str,
    /,
    *,
    event: Names = None,
    name: str = "",
    tenant: str = _TENANT,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make an endpoint and print its secret. It is shown this once.

    Parameters
    ----------
    url
        Where events go.
    event
        A type of event it wants, such as response.completed; may be repeated. If not given: all.
    name
        What it is for.
    tenant
        Whose responses and batches it hears of, as `backline keys list` has it.
    """
    from api.webhooks.wire import CreateWebhook, endpoint_of  # noqa: PLC0415 - so that --help is quick
    from shared.webhooks.records import EVENT_TYPES  # noqa: PLC0415

    given = {"url": url, "name": name, "event_types": event or EVENT_TYPES}
    try:
        wish = msgspec.convert(given, CreateWebhook)
    except msgspec.ValidationError as error:
        raise CommandError(f"{error}. Events: {', '.join(EVENT_TYPES)}.", code=2) from error

    async def work(hooks: Webhooks) -> None:
        made = await hooks.create(tenant, wish)
        if json:
            print_json(endpoint_of(made, with_secret=True))
            return
        say(made.secret)
        sys.stderr.write(f"This signs what {made.id} gets; it is not shown again.\n")

    _with_webhooks(redis_url, data, work)


@webhooks.command(name="list")
def list_(
    *, tenant: str = _TENANT, redis_url: RedisUrl = None, data: Data = None, json: Json = False
) -> None:
    """List a tenant's endpoints.

    Parameters
    ----------
    tenant
        Whose.
    """
    from api.webhooks.wire import endpoint_of  # noqa: PLC0415 - imported here so that --help is quick

    async def work(hooks: Webhooks) -> None:
        found = [endpoint_of(webhook) for webhook in await hooks.all(tenant)]
        if json:
            print_json(found)
            return
        for one in found:
            state = "disabled" if one.disabled_at else "enabled"
            say(f"{one.id}  {state:8}  {one.url}  {' '.join(one.event_types)}  {one.name}".rstrip())

    _with_webhooks(redis_url, data, work)


@webhooks.command
def delete(
    webhook_id: str, /, *, tenant: str = _TENANT, redis_url: RedisUrl = None, data: Data = None
) -> None:
    """Delete an endpoint; what waits for it is not delivered.

    Parameters
    ----------
    webhook_id
        Its id, as `backline webhooks list` has it.
    tenant
        Whose it is.
    """

    async def work(hooks: Webhooks) -> None:
        await hooks.delete(tenant, webhook_id)
        say(f"Deleted {webhook_id}.")

    _with_webhooks(redis_url, data, work)


@webhooks.command(name="test")
def try_(webhook_id: str, /, *, tenant: str = _TENANT, redis_url: RedisUrl = None, data: Data = None) -> None:
    """Send a sample event to an endpoint from here, and say what it answered.

    Parameters
    ----------
    webhook_id
        Its id.
    tenant
        Whose it is.
    """

    async def work(hooks: Webhooks) -> None:
        tried = await hooks.test(tenant, webhook_id, None)
        say(f"{tried.event_type}: answered with {tried.status_code}.")
        if not 200 <= tried.status_code < 300:
            raise CommandError("The endpoint did not take it.")

    _with_webhooks(redis_url, data, work)


def _with_webhooks(
    redis_url: str | None, data: str | None, work: Callable[[Webhooks], Awaitable[None]]
) -> None:
    """Do `work` on the webhooks that the settings lead to. Raises CommandError."""
    from api.errors import ApiError  # noqa: PLC0415 - imported here so that --help is quick
    from api.webhooks.send import Sender  # noqa: PLC0415
    from api.webhooks.service import Webhooks  # noqa: PLC0415
    from shared.webhooks.store import WebhookStore  # noqa: PLC0415

    async def on_webhooks(redis: Redis, settings: Settings) -> None:
        sender = Sender(settings)
        try:
            await work(Webhooks(WebhookStore(redis, settings), sender, settings))
        except ApiError as error:
            raise CommandError(error.message) from error
        finally:
            await sender.aclose()

    on_redis(redis_url, data, on_webhooks)
