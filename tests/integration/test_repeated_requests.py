"""A request that is made again finds its run: with an idempotency key, or as a retry of a stock SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from scripted_model import Script, fail, say, script, stall, text, tokens
from tests.conftest import NewStack
from tests.integration.test_background_responses import another_api, api_process
from tests.integration.test_streams_are_picked_up import frames_of
from tests.support.asking import PATH, body, check_envelope, user
from tests.support.model import Model
from tests.support.stack import Stack
from tests.support.waiting import eventually

FIRST, RETRY = {"x-stainless-retry-count": "0"}, {"x-stainless-retry-count": "1"}
REPLAYED = "idempotent-replayed"


@pytest.fixture(scope="module")
def second(stack: Stack) -> Iterator[str]:
    """The URL of another API process of the shared stack."""
    with another_api(stack) as url:
        yield url


@pytest.fixture
async def other(second: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=second, timeout=50) as http:
        yield http


def key_of(marker: str) -> dict[str, str]:
    return {"Idempotency-Key": marker}


def requests_of(path: str, marker: str, what: Script) -> dict[str, Any]:
    match path:
        case "/v1/completions":
            return {"model": "agent", "prompt": f"{marker} {what}"}
        case "/v1/responses":
            return {"model": "agent", "input": f"{marker} {what}"}
        case _:
            return {"model": "agent", "max_tokens": 500, "messages": [user(marker, what)]}


async def test_fifty_copies_of_a_request_start_the_agent_once(
    http: httpx.AsyncClient, other: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(tokens(20, pace_ms=30)))
    posts = [
        (http if number % 2 else other).post(PATH, json=asked, headers=key_of(marker)) for number in range(50)
    ]
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len([answer for answer in answers if REPLAYED not in answer.headers]) == 1
    assert len(model.calls(marker)) == 1


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_each_way_in_gives_the_same_answer_again(
    http: httpx.AsyncClient, other: httpx.AsyncClient, model: Model, marker: str, path: str
) -> None:
    asked = requests_of(path, marker, say("Once."))
    first = await http.post(path, json=asked, headers=key_of(marker))
    again = await other.post(path, json=dict(reversed(asked.items())), headers=key_of(marker))
    assert (again.status_code, again.json()) == (200, first.json())
    assert (first.headers.get(REPLAYED), again.headers[REPLAYED]) == (None, "true")
    assert first.headers["x-backline-run-id"] == again.headers["x-backline-run-id"]
    streamed = {**asked, "stream": True}
    begun = await http.post(path, json=streamed, headers=key_of(f"{marker}-stream"))
    told = await other.post(path, json=streamed, headers=key_of(f"{marker}-stream"))
    assert told.text == begun.text
    assert told.headers[REPLAYED] == "true"
    assert len(model.calls(marker)) == 2


async def test_a_copy_reads_from_the_beginning_while_the_first_goes_on(
    http: httpx.AsyncClient, other: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(tokens(40, pace_ms=50)), stream=True)
    async with http.stream("POST", PATH, json=asked, headers=key_of(marker)) as one:
        reading = frames_of(one.aiter_text())
        copy = asyncio.create_task(other.post(PATH, json=asked, headers=key_of(marker)))
        told = await reading
    assert await frames_of((await copy).aiter_text()) == told
    assert len(model.calls(marker)) == 1


async def test_the_run_goes_on_as_long_as_somebody_reads_it(
    http: httpx.AsyncClient, other: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(tokens(100, pace_ms=80)), stream=True)
    async with http.stream("POST", PATH, json=asked, headers=key_of(marker)) as one:
        await frames_of(one.aiter_text(), 3)
        copy = asyncio.create_task(other.post(PATH, json=asked, headers=key_of(marker)))
        await asyncio.sleep(0.5)
    assert (await copy).text.endswith(
        "data: [DONE]\nid: " + (await copy).text.strip().rpartition(" ")[2] + "\n\n"
    )
    assert len(model.calls(marker)) == 1


async def test_a_broken_stream_goes_on_with_the_same_key_where_it_was(
    http: httpx.AsyncClient, other: httpx.AsyncClient, model: Model, marker: str
) -> None:
    for path in (PATH, "/v1/messages", "/v1/responses"):
        asked = requests_of(path, f"{marker} {path}", script(tokens(40, pace_ms=50))) | {"stream": True}
        key = key_of(f"{marker} {path}")
        async with http.stream("POST", path, json=asked, headers=key) as one:
            begin = await frames_of(one.aiter_text(), 12)
        last = next(line[4:] for line in begin[-1].splitlines() if line.startswith("id: "))
        rest = await other.post(path, json=asked, headers={**key, "Last-Event-ID": last})
        whole = await other.post(path, json=asked, headers=key)
        assert begin + await frames_of(rest.aiter_text()) == await frames_of(whole.aiter_text())
        assert all("\nid: " in f"\n{frame}" for frame in begin)
    assert len(model.calls(marker)) == 3


async def test_a_key_stands_for_one_request(
    http: httpx.AsyncClient, claude: AsyncAnthropic, marker: str
) -> None:
    await http.post(PATH, json=body(say("One.")), headers=key_of(marker))
    refused = await http.post(PATH, json=body(say("Another.")), headers=key_of(marker))
    check_envelope(refused, 422, "idempotency_key_reused", param="Idempotency-Key")
    assert refused.headers["x-should-retry"] == "false"
    asked = requests_of("/v1/messages", marker, say("Third."))
    elsewhere = await http.post("/v1/messages", json=asked, headers=key_of(marker))
    assert (elsewhere.status_code, elsewhere.json()["type"]) == (422, "error")


async def test_choices_and_stored_ids_stay_the_same(
    http: httpx.AsyncClient, other: httpx.AsyncClient, sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    asked = body(marker, say("Each."), n=3, store=True)
    first, again = await asyncio.gather(
        *(one.post(PATH, json=asked, headers=key_of(marker)) for one in (http, other))
    )
    assert first.json() == again.json()
    assert len(model.calls(marker)) == 3
    stored = await sdk.chat.completions.retrieve(first.json()["id"])
    assert len(stored.choices) == 3


async def test_a_failure_is_told_again_and_not_repeated(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(fail(529)))
    first = await http.post(PATH, json=asked, headers=key_of(marker))
    again = await http.post(PATH, json=asked, headers=key_of(marker))
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert first.headers["x-should-retry"] == again.headers["x-should-retry"] == "false"
    assert first.headers["x-backline-run-id"] == again.headers["x-backline-run-id"]
    assert len(model.calls(marker)) == 1


async def test_a_background_response_is_the_same_and_not_put_back_to_its_beginning(
    http: httpx.AsyncClient, sdk: AsyncOpenAI, marker: str
) -> None:
    asked = requests_of("/v1/responses", marker, say("Done.")) | {"background": True}
    first = (await http.post("/v1/responses", json=asked, headers=key_of(marker))).json()

    async def is_done() -> bool:
        return (await sdk.responses.retrieve(first["id"])).status == "completed"

    for _ in range(400):
        if await is_done():
            break
        await asyncio.sleep(0.05)
    again = (await http.post("/v1/responses", json=asked, headers=key_of(marker))).json()
    assert (again["id"], again["status"]) == (first["id"], "completed")
    assert await is_done()


async def test_the_retry_of_a_client_that_gave_up_finds_its_run(
    second: str, stack: Stack, model: Model, marker: str
) -> None:
    """OpenAI's own client: its time runs out, it hangs up, and asks again."""
    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused", max_retries=2, timeout=3) as sdk:
        answer = await sdk.chat.completions.create(
            model="agent", messages=[user(marker, script(tokens(90, pace_ms=50)))]
        )
    assert (answer.choices[0].message.content or "").endswith("t89")
    assert len(model.calls(marker)) == 1


async def test_the_retry_of_anthropics_client_finds_its_run(stack: Stack, model: Model, marker: str) -> None:
    async with AsyncAnthropic(base_url=stack.url, api_key="unused", max_retries=2, timeout=3) as claude:
        answer = await claude.messages.create(
            model="agent",
            max_tokens=500,
            messages=[{"role": "user", "content": f"{marker} {script(tokens(90, pace_ms=50))}"}],
        )
    assert answer.content[0].type == "text"
    assert len(model.calls(marker)) == 1


async def test_equal_requests_that_are_no_retries_have_runs_of_their_own(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(tokens(5, pace_ms=50)))
    answers = await asyncio.gather(*(http.post(PATH, json=asked, headers=FIRST) for _ in range(3)))
    assert len({answer.json()["id"] for answer in answers}) == 3
    late = await http.post(PATH, json=asked, headers=RETRY)
    assert late.json()["id"] not in {answer.json()["id"] for answer in answers}
    assert REPLAYED not in late.headers
    assert len(model.calls(marker)) == 4


async def test_nobody_comes_back_and_the_run_is_cancelled(
    new_stack: NewStack, model: Model, marker: str
) -> None:
    stack = new_stack(disconnect_grace_s=1)
    asked = body(marker, script(text("one "), stall(60)))
    async with stack.http() as http:
        for headers in (FIRST, key_of(marker)):
            request = asyncio.create_task(http.post(PATH, json=asked, headers=headers))
            count = len(model.calls(marker))
            await eventually(partial(_is_asked, model, marker, count), 20, "the model is asked")
            request.cancel()
            await asyncio.wait({request})
            await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "it is cancelled")
            await eventually(lambda: not stack.waiting("agent"), 10, "the run is over")
        again = asyncio.create_task(http.post(PATH, json=asked, headers=key_of(marker)))
        await eventually(lambda: len(model.calls(marker)) == 3, 20, "the same key starts anew")
        again.cancel()
        await asyncio.wait({again})
        await eventually(lambda: not stack.waiting("agent"), 10, "the run is over")


@pytest.mark.parametrize("is_keyed", [True, False])
async def test_an_api_that_is_killed_takes_no_run_with_it(
    stack: Stack, http: httpx.AsyncClient, model: Model, marker: str, is_keyed: bool
) -> None:
    first, again = (key_of(marker), key_of(marker)) if is_keyed else (FIRST, RETRY)
    asked = body(marker, script(tokens(60, pace_ms=50)), stream=True)
    with api_process(stack) as (url, server):
        async with httpx.AsyncClient(base_url=url, timeout=50) as doomed:
            with suppress(httpx.HTTPError):
                async with doomed.stream("POST", PATH, json=asked, headers=first) as one:
                    chunks = one.aiter_text()
                    await frames_of(chunks, 5)
                    server.kill()
                    await frames_of(chunks)
    told = (await http.post(PATH, json=asked, headers=again)).text
    assert "".join(words(told)).split() == [f"t{number}" for number in range(60)]
    assert len(model.calls(marker)) == 1


def _is_asked(model: Model, marker: str, before: int) -> bool:
    return len(model.calls(marker)) > before


def words(told: str) -> Iterator[str]:
    for line in told.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                yield choice["delta"].get("content") or ""
