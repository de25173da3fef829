"""Webhooks through real processes: OpenAI's SDK makes the endpoint, and accepts what comes there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import openai
import pytest
from openai import OpenAI

from scripted_model import Script, fail, say, script, stall, text, tokens
from tests.integration.test_responses import asked
from tests.support.model import Model
from tests.support.receiver import Received, Receiver, running_receiver
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for

WITHIN_S = 30.0
SETTINGS: dict[str, Any] = {"webhook_private": True, "webhook_retries_s": "0.2,0.2", "webhook_timeout_s": 5}

OPERATORS_SECRET = "whsec_" + "A" * 32


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def hooked(model: Model, receiver: Receiver) -> Iterator[Stack]:
    operators: dict[str, Any] = {"webhook_url": receiver.endpoint(), "webhook_secret": OPERATORS_SECRET}
    with running_stack(model, slots=4, **SETTINGS, **operators) as stack:
        yield stack


def ended(receiver: Receiver, url: str, count: int = 1) -> list[Received]:
    """What came to an endpoint, once it is so much."""
    wait_for(lambda: len(receiver.at(url)) >= count, WITHIN_S, "the events come")
    return receiver.at(url)


def background(sdk: OpenAI, wish: Script | str, *words: str) -> str:
    return sdk.responses.create(model="agent", input=asked(*words, wish), background=True).id


class Told(NamedTuple):
    id: str
    type: str
    of: str


def unwrapped(sdk: OpenAI, got: Received, secret: str) -> Told:
    """An event as OpenAI's SDK gives it, when the signature is good."""
    event: dict[str, Any] = sdk.webhooks.unwrap(got.body, got.headers, secret=secret).model_dump()
    return Told(event["id"], event["type"], event["data"]["id"])


def heard(sdk: OpenAI, receiver: Receiver, url: str) -> set[str]:
    """What the operator's endpoint was told of."""
    return {unwrapped(sdk, got, OPERATORS_SECRET).of for got in receiver.at(url)}


def test_every_end_of_a_response_is_told_to_openais_sdk(
    hooked: Stack, receiver: Receiver, model: Model, marker: str
) -> None:
    url = receiver.endpoint()
    with hooked.sync_sdk() as sdk:
        made = sdk.webhooks.create(
            url=url,
            name="all",
            event_types=[
                "response.completed",
                "response.failed",
                "response.cancelled",
                "response.incomplete",
            ],
        )
        stalled = background(sdk, script(text("So far"), stall(60)), marker)
        wait_for(lambda: model.calls(marker), 20, "the request reaches the model")
        sdk.responses.cancel(stalled)
        cut = sdk.responses.create(
            model="agent", input=asked(script(tokens(60))), background=True, max_output_tokens=16
        )
        expected = {
            background(sdk, say("Done.")): "response.completed",
            background(sdk, script(fail(529))): "response.failed",
            stalled: "response.cancelled",
        }
        got = ended(receiver, url, 4)
        events = [unwrapped(sdk, one, made.signing_secret) for one in got]
        told = {event.of: event.type for event in events}
        status = sdk.responses.retrieve(cut.id).status
        assert told == {**expected, cut.id: f"response.{status}"}
        assert len({event.id for event in events}) == 4
        url = str(hooked._settings["webhook_url"])
        wait_for(lambda: told.keys() <= heard(sdk, receiver, url), WITHIN_S, "the operator hears of it too")
        for event in events:
            response = sdk.responses.retrieve(event.of)
            assert f"response.{response.status}" == event.type
        sdk.webhooks.delete(made.id)
        with pytest.raises(openai.NotFoundError):
            sdk.webhooks.retrieve(made.id)


def test_the_sdk_manages_endpoints_and_sees_what_was_delivered(hooked: Stack, receiver: Receiver) -> None:
    url = receiver.endpoint("/fail/1")
    with hooked.sync_sdk() as sdk:
        assert "batch.expired" in sdk.webhooks.event_types.list().data
        made = sdk.webhooks.create(url=url, name="one", event_types=["batch.completed"])
        assert made.id in [one.id for one in sdk.webhooks.list()]
        assert sdk.webhooks.test(made.id, event_type="batch.completed").status_code == 500
        changed = sdk.webhooks.update(made.id, name="other", event_types=["response.completed"])
        assert (changed.name, changed.event_types) == ("other", ["response.completed"])
        rotated = sdk.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        response = background(sdk, say("Done."))
        _, got = ended(receiver, url, 2)
        for secret in (made.signing_secret, rotated.signing_secret):
            assert unwrapped(sdk, got, secret) == (got.event_id, "response.completed", response)
        place = f"{hooked.url}/v1/webhooks/{made.id}"

        def delivered() -> list[dict[str, Any]]:
            listed: list[dict[str, Any]] = httpx.get(f"{place}/deliveries").json()["data"]
            return [one for one in listed if one["status"] == "delivered"]

        (delivery,) = wait_for(delivered, WITHIN_S, "the delivery is noted")
        assert (delivery["id"], delivery["object_id"]) == (got.event_id, response)
        assert [attempt["status_code"] for attempt in delivery["attempts"]] == [204]
        again = httpx.post(f"{place}/deliveries/{got.event_id}/redeliver")
        assert again.json()["status"] == "pending"
        assert {one.event_id for one in ended(receiver, url, 3)[1:]} == {got.event_id}
        assert sdk.webhooks.delete(made.id).deleted


def test_the_end_of_a_batch_is_told(hooked: Stack, receiver: Receiver) -> None:
    url = receiver.endpoint()
    with hooked.sync_sdk() as sdk:
        made = sdk.webhooks.create(url=url, name="", event_types=["batch.completed", "batch.failed"])
        body = {"model": "agent", "messages": [{"role": "user", "content": asked(say("Done."))}]}
        line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": body}
        one = json.dumps(line) + "\n"
        expected = {}
        for content, kind in ((one, "batch.completed"), (one + one, "batch.failed")):
            file = sdk.files.create(file=("a.jsonl", content.encode()), purpose="batch")
            batch = sdk.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            expected[batch.id] = kind
        events = [unwrapped(sdk, one, made.signing_secret) for one in ended(receiver, url, 2)]
        assert {event.of: event.type for event in events} == expected
        sdk.webhooks.delete(made.id)


def test_what_a_killed_api_had_not_delivered_another_delivers(hooked: Stack) -> None:
    with running_receiver() as receiver:
        check_takeover(hooked, receiver)
    assert "whsec_" not in hooked.api.log.read_text()


def check_takeover(stack: Stack, receiver: Receiver) -> None:
    url = receiver.endpoint("/hang")
    with stack.sync_sdk() as sdk:
        made = sdk.webhooks.create(url=url, name="", event_types=["response.completed"])
        response = background(sdk, say("Done."))
        (first,) = ended(receiver, url)  # settled, and on its way
    stack.api.kill()
    receiver.closing.set()  # it answers from now on
    stack.start_api()
    stack.wait_ready()
    again = ended(receiver, url, 2)[1]
    with stack.sync_sdk() as sdk:
        assert unwrapped(sdk, again, made.signing_secret) == (first.event_id, "response.completed", response)
        sdk.webhooks.delete(made.id)
