"""An event is delivered, signed, at least once, whatever the endpoint answers and whoever dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from arq.connections import ArqRedis
from openai import InvalidWebhookSignatureError, OpenAI
from standardwebhooks import Webhook as StandardWebhook

from api.webhooks.deliver import Dispatcher
from api.webhooks.send import Sender
from api.webhooks.service import Webhooks
from shared import redis_keys as keys
from shared.batches.records import BatchSpec, BatchStatus
from shared.batches.store import BatchStore
from shared.scripts import Scripts, Value
from shared.settings import Settings
from shared.webhooks import redis_keys as webhook_keys
from shared.webhooks.outbox import MOST_SHOWN, Outbox
from shared.webhooks.records import Delivery, EventType, Place, Webhook, new_secret
from shared.webhooks.store import MOST_UNDER_WAY, WebhookStore
from tests.support.receiver import Receiver, running_receiver
from tests.unit.support import eventually, running, until

TENANT = "t"
RETRIES = (0.02, 0.02)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.webhooks.deliver._POLL_S", 0.02)


class World(NamedTuple):
    redis: ArqRedis
    settings: Settings
    store: WebhookStore

    async def make(self, url: str, *types: EventType, tenant: str = TENANT) -> Webhook:
        return await self.store.create(tenant, name="", url=url, event_types=types or ("response.completed",))

    async def tell(self, object_id: str = "resp_1", event_type: str = "response.completed") -> None:
        """End an object, as `object_put` does."""
        notice = Outbox(self.settings).notice(keys.owner(TENANT), event_type, object_id, created=7)
        names = [keys.stored("response", TENANT, object_id), keys.stored_list("response", TENANT)]
        args: list[Value] = [60_000, object_id, 0, 60_000, notice, "", "", 0, "body", b"x"]
        await Scripts(self.redis)("object_put", [*names, ""], args)

    async def of(self, webhook: Webhook) -> list[Delivery]:
        return [delivery for _, delivery, _ in await self.store.deliveries(TENANT, webhook.id)]

    async def settled(self, webhook: Webhook, count: int = 1) -> list[Delivery]:
        async def are_over() -> bool:
            found = await self.of(webhook)
            return len(found) == count and all(one.state != "pending" for one in found)

        await until(are_over, "the deliveries are over")
        return await self.of(webhook)

    @asynccontextmanager
    async def dispatching(self) -> AsyncIterator[None]:
        sender = Sender(self.settings)
        async with running(Dispatcher(self.store, sender, self.settings).run()):
            yield
        await sender.aclose()


def world_of(redis: ArqRedis, **settings: Any) -> World:
    given = {"webhook_private": True, "webhook_retries_s": RETRIES, "webhook_timeout_s": 5, **settings}
    made = Settings(**given)
    return World(redis, made, WebhookStore(redis, made))


@pytest.fixture
def world(redis: ArqRedis) -> World:
    return world_of(redis)


async def test_openais_and_the_standards_own_libraries_accept_it(world: World, receiver: Receiver) -> None:
    url = receiver.endpoint()
    webhook = await world.make(url)
    await world.tell("resp_42")
    async with world.dispatching():
        await world.settled(webhook)
    (got,) = receiver.at(url)
    sdk = OpenAI(api_key="unused", webhook_secret=webhook.secret)
    event = sdk.webhooks.unwrap(got.body, got.headers)
    assert event.type == "response.completed"
    assert (event.id, event.object, event.created_at, event.data.id) == (got.event_id, "event", 7, "resp_42")
    assert StandardWebhook(webhook.secret).verify(got.body, dict(got.headers)) == got.event
    for body, secret in ((got.body + b" ", webhook.secret), (got.body, new_secret())):
        with pytest.raises(InvalidWebhookSignatureError):
            sdk.webhooks.verify_signature(body, got.headers, secret=secret)


async def test_both_secrets_sign_while_they_overlap(world: World, receiver: Receiver) -> None:
    url = receiver.endpoint()
    old = await world.make(url)
    service = Webhooks(world.store, Sender(world.settings), world.settings)
    both = await service.rotate(TENANT, old.id, keep_old=True)
    await service.test(TENANT, old.id, None)
    new = await service.rotate(TENANT, old.id, keep_old=False)
    await service.test(TENANT, old.id, "batch.failed")
    overlapping, alone = receiver.at(url)
    for secret in (old.secret, both.secret):
        StandardWebhook(secret).verify(overlapping.body, dict(overlapping.headers))
    sdk = OpenAI(api_key="unused")
    sdk.webhooks.verify_signature(overlapping.body, overlapping.headers, secret=old.secret)
    assert sdk.webhooks.unwrap(alone.body, alone.headers, secret=new.secret).type == "batch.failed"
    with pytest.raises(InvalidWebhookSignatureError):
        sdk.webhooks.verify_signature(alone.body, alone.headers, secret=both.secret)


async def test_a_failure_is_tried_again_under_the_same_id(world: World, receiver: Receiver) -> None:
    url = receiver.endpoint("/fail/2")
    webhook = await world.make(url)
    await world.tell()
    async with world.dispatching():
        (delivery,) = await world.settled(webhook)
    assert delivery.state == "delivered"
    assert [attempt.status_code for attempt in delivery.attempts] == [500, 500, 204]
    assert len({(got.event_id, got.body) for got in receiver.at(url)}) == 1
    assert not await world.redis.exists(webhook_keys.OPEN)


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
async def test_it_is_given_up_after_the_last_try_and_can_be_asked_for_again(
    world: World, receiver: Receiver, status: int
) -> None:
    url = receiver.endpoint(f"/status/{status}")
    webhook = await world.make(url)
    await world.tell()
    async with world.dispatching():
        (delivery,) = await world.settled(webhook)
        assert delivery.state == "failed"
        assert [attempt.status_code for attempt in delivery.attempts] == [status] * (1 + len(RETRIES))
        ((event_id, _, next_at),) = await world.store.deliveries(TENANT, webhook.id)
        assert next_at is None
        again = await world.store.redeliver(TENANT, webhook.id, event_id)
        assert again is not None
        assert (again.state, again.tries) == ("pending", 0)
        (delivery,) = await world.settled(webhook)
    assert len(delivery.attempts) == 2 * (1 + len(RETRIES))
    assert len({got.event_id for got in receiver.at(url)}) == 1
    assert not [got for got in receiver.received if got.path == "/redirected"]


async def test_an_endpoint_that_is_gone_is_disabled(world: World, receiver: Receiver) -> None:
    url = receiver.endpoint("/status/410")
    webhook = await world.make(url)
    await world.tell("resp_1")
    async with world.dispatching():
        await world.settled(webhook)
        assert (await world.store.get(TENANT, webhook.id)).disabled
        await world.tell("resp_2")
        ((event_id, _, _),) = await world.store.deliveries(TENANT, webhook.id)
        await world.store.redeliver(TENANT, webhook.id, event_id)
        (delivery,) = await world.settled(webhook)
    assert (delivery.state, delivery.error) == ("failed", "The endpoint is disabled.")
    assert len(receiver.at(url)) == 1


async def test_a_silent_endpoint_delays_no_other(redis: ArqRedis, receiver: Receiver) -> None:
    world = world_of(redis, webhook_timeout_s=40)
    hanging = receiver.endpoint("/hang")
    await world.make(hanging)
    other = await world.make(receiver.endpoint(), "response.failed")
    for number in range(3 * MOST_UNDER_WAY):
        await world.tell(f"resp_{number}")
    async with world.dispatching():
        await eventually(lambda: len(receiver.at(hanging)) == MOST_UNDER_WAY, "as many as may are under way")
        await world.tell("resp_other", "response.failed")
        await world.settled(other)
        assert len(receiver.at(hanging)) == MOST_UNDER_WAY


async def test_a_silent_endpoint_is_given_up(redis: ArqRedis, receiver: Receiver) -> None:
    world = world_of(redis, webhook_timeout_s=0.3)
    silent = await world.make(receiver.endpoint("/hang"))
    await world.tell()
    async with world.dispatching():
        (failed,) = await world.settled(silent)
    assert failed.state == "failed"
    said = [attempt.error for attempt in failed.attempts]
    assert said == ["It did not answer within 0.3 seconds."] * (1 + len(RETRIES))


async def test_what_a_process_took_and_never_made_is_anothers(redis: ArqRedis, receiver: Receiver) -> None:
    world = world_of(redis)
    world.store._lease_ms = 300
    url = receiver.endpoint()
    webhook = await world.make(url)
    await world.tell()
    (taken,) = await world.store.take(10)
    assert await world.store.take(10) == []
    async with world.dispatching():
        await world.settled(webhook)
    assert {got.event_id for got in receiver.at(url)} == {taken.event_id}


async def test_two_processes_make_each_delivery_once(world: World, receiver: Receiver) -> None:
    url = receiver.endpoint()
    webhook = await world.make(url)
    for number in range(40):
        await world.tell(f"resp_{number}")
    async with world.dispatching(), world.dispatching():
        await world.settled(webhook, 40)
    assert len(receiver.at(url)) == len({got.event_id for got in receiver.at(url)}) == 40


async def test_only_those_hear_it_who_want_it(world: World, receiver: Receiver) -> None:
    wanted = await world.make(receiver.endpoint(), "response.failed", "response.completed")
    unwanted = await world.make(receiver.endpoint(), "response.failed")
    foreign = await world.make(receiver.endpoint(), tenant="another")
    for _ in range(2):  # stored twice, told once
        await world.tell()
    assert len(await world.of(wanted)) == 1
    assert await world.of(unwanted) == []
    assert await world.store.deliveries("another", foreign.id) == []


async def test_the_operator_hears_of_all_tenants(redis: ArqRedis, receiver: Receiver) -> None:
    url, secret = receiver.endpoint("/fail/1"), new_secret()
    world = world_of(redis, webhook_url=url, webhook_secret=secret, webhook_private=False)
    elsewhere = world_of(redis)  # a process that does not know of it yet
    await world.tell()
    assert await elsewhere.store.take(10) == []
    async with world.dispatching():
        await eventually(lambda: len(receiver.at(url)) == 2, "it is delivered")
    StandardWebhook(secret).verify(receiver.at(url)[1].body, dict(receiver.at(url)[1].headers))


async def test_the_end_of_a_batch_is_told_once(world: World) -> None:
    webhook = await world.make("https://a.example/", "batch.failed")
    batches = BatchStore(world.redis, Outbox(world.settings), retention_s=60)
    spec = BatchSpec(endpoint="/v1/responses", input_file_id="file_1", completion_window="24h")
    batch, _ = await batches.create(TENANT, spec, window_s=60)
    (lease,) = await batches.claim(1)
    assert await batches.step(lease, [BatchStatus.VALIDATING], BatchStatus.FAILED)
    assert not await batches.step(lease, [BatchStatus.VALIDATING], BatchStatus.FAILED)
    (delivery,) = await world.of(webhook)
    assert (delivery.type, delivery.object_id) == ("batch.failed", batch.id)


async def test_what_is_kept_of_an_endpoint_is_bounded(world: World) -> None:
    webhook = await world.make("https://a.example/")
    place = str(Place(keys.owner(TENANT), webhook.id))

    async def kept() -> int:
        count: Any = world.redis.hlen(webhook_keys.deliveries(place))
        return int(await count)

    for number in range(MOST_SHOWN + 10):
        await world.tell(f"resp_{number}")
    taken = await world.store.take(1)
    assert len(await world.of(webhook)) == MOST_SHOWN
    assert await kept() == MOST_SHOWN + 10  # all are to be made
    await world.store.note(taken[0].place, taken[0].event_id, taken[0].delivery)
    assert await kept() == MOST_SHOWN + 9
    await world.store.delete(TENANT, webhook.id)
    assert [name async for name in world.redis.scan_iter("backline:*webhook*")] == []
    await world.tell("resp_late")
    assert not await world.store.note(taken[0].place, taken[0].event_id, taken[0].delivery, again_s=0)
    assert [name async for name in world.redis.scan_iter("backline:*webhook*")] == []


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://10.1.2.3/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "ftp://93.184.215.14/",
        "https://user:word@93.184.215.14/",
        "nonsense",
    ],
)
async def test_nothing_is_sent_inside(redis: ArqRedis, url: str) -> None:
    """Not even to an endpoint that was made when it was allowed, or by a name that leads inside later."""
    world = world_of(redis, webhook_private=False, webhook_retries_s=(60,))
    webhook = await world.make(url)
    await world.tell()
    async with world.dispatching():

        async def was_tried() -> bool:
            return bool((await world.of(webhook))[0].attempts)

        await until(was_tried, "it was tried")
    ((attempt,),) = [one.attempts for one in await world.of(webhook)]
    assert attempt.status_code is None
    assert "URL" in attempt.error
    assert "could not" not in attempt.error, "a connection was tried"
