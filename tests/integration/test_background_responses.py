"""A background response needs no connection; any API process can tell it, live or later, from any place."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress

import httpx
import msgspec
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from scripted_model import fail, say, script, stall, text, tokens
from tests.conftest import NewStack
from tests.integration.test_responses import PATH, asked
from tests.support.asking import check_envelope
from tests.support.model import Model
from tests.support.processes import BACKLINE, Server
from tests.support.stack import Stack, _free_port
from tests.support.waiting import eventually, wait_for

WITHIN_S = 20.0
OVER = {"completed", "failed", "cancelled", "incomplete"}


@contextmanager
def another_api(stack: Stack) -> Iterator[str]:
    """A second API process on the same Redis; gives its URL."""
    with api_process(stack) as (url, _):
        yield url


@contextmanager
def api_process(stack: Stack) -> Iterator[tuple[str, Server]]:
    """The same, and the process itself."""
    port = _free_port()
    argv = [BACKLINE, "api", "--port", str(port), "--redis-url", stack.redis_url]
    server = Server(argv, env=stack._environ({}), cwd=stack.root, log=stack.root / f"api{port}.log")
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        return False

    try:
        wait_for(answers, 30, "the second API answers")
        yield url, server
    finally:
        if server.runs:
            server.ask_to_end()
        server.exit_code()


async def ended(sdk: AsyncOpenAI, response_id: str) -> Response:
    """Poll as a client does, to the end."""
    for _ in range(int(WITHIN_S / 0.05)):
        response = await sdk.responses.retrieve(response_id)
        if response.status in OVER:
            return response
        assert response.status in {"queued", "in_progress"}
        await asyncio.sleep(0.05)
    raise AssertionError(f"not over within {WITHIN_S:g} s")


async def frames_of(lines: AsyncIterator[str], most: int | None = None) -> list[str]:
    """The data of a stream's events, at most so many."""
    found: list[str] = []
    async for line in lines:
        if line.startswith("data: "):
            found.append(line)
            if len(found) == most:
                break
    return found


async def test_a_background_response_is_polled_to_its_end(sdk: AsyncOpenAI) -> None:
    words = asked(script(tokens(20, pace_ms=20)))
    response = await sdk.responses.create(model="agent", input=words, background=True)
    assert (response.status, response.output, response.background) == ("queued", [], True)
    done = await ended(sdk, response.id)
    assert done.status == "completed"
    assert done.output_text.split()[-1] == "t19"
    assert (await sdk.responses.cancel(response.id)).model_dump() == done.model_dump()


async def test_a_broken_stream_is_continued_on_another_api_process(stack: Stack) -> None:
    words = asked(script(tokens(60, pace_ms=30)))
    body = {"model": "agent", "input": words, "background": True, "stream": True}
    with another_api(stack) as url:
        async with stack.http() as http, http.stream("POST", PATH, json=body) as answer:
            begin = await frames_of(answer.aiter_lines(), 20)
        response_id = msgspec.json.decode(begin[0][6:])["response"]["id"]
        async with httpx.AsyncClient(base_url=url, timeout=50) as other:
            where = f"{PATH}/{response_id}?stream=true"
            async with other.stream("GET", f"{where}&starting_after=19") as answer:
                rest = await frames_of(answer.aiter_lines())
            async with other.stream("GET", where) as answer:
                whole = await frames_of(answer.aiter_lines())
    assert begin + rest == whole
    numbers = [msgspec.json.decode(frame[6:])["sequence_number"] for frame in whole]
    assert numbers == list(range(len(whole)))
    assert msgspec.json.decode(whole[-1][6:])["type"] == "response.completed"


async def test_the_client_continues_a_stream_with_openais_own_sdk(sdk: AsyncOpenAI) -> None:
    words = asked(script(tokens(40, pace_ms=30)))
    stream = await sdk.responses.create(model="agent", input=words, background=True, stream=True)
    seen = 0
    response_id = ""
    async for event in stream:
        if event.type == "response.created":
            response_id = event.response.id
        seen = event.sequence_number
        if seen == 10:
            await stream.close()
            break
    rest = [
        event async for event in await sdk.responses.retrieve(response_id, stream=True, starting_after=seen)
    ]
    assert [event.sequence_number for event in rest] == list(range(11, 11 + len(rest)))
    assert rest[-1].type == "response.completed"


async def test_a_disconnect_at_the_first_event_does_not_end_it(stack: Stack, sdk: AsyncOpenAI) -> None:
    body = {"model": "agent", "input": asked(say("Still here.")), "background": True, "stream": True}
    async with stack.http() as http, http.stream("POST", PATH, json=body) as answer:
        (first,) = await frames_of(answer.aiter_lines(), 1)
    response_id = msgspec.json.decode(first[6:])["response"]["id"]
    assert (await ended(sdk, response_id)).output_text == "Still here."


async def test_its_end_is_stored_when_nobody_reads_and_outlives_the_log(new_stack: NewStack) -> None:
    stack = new_stack(retention_s=8)
    async with stack.sdk() as sdk, stack.http() as http:
        words = asked(script(tokens(5)))
        stream = await sdk.responses.create(model="agent", input=words, background=True, stream=True)
        told = [event.model_dump() async for event in stream]
        unread = await sdk.responses.create(model="agent", input=asked(say("Unread.")), background=True)

        def has_lapsed() -> bool:
            with stack.redis_client() as client:
                names = list(client.scan_iter("backline:run:*")) + list(
                    client.scan_iter("backline:unattended")
                )
            return not names

        await eventually(has_lapsed, 40, "the runs' records and logs have lapsed")
        assert (await sdk.responses.retrieve(unread.id)).output_text == "Unread."
        response_id = told[0]["response"]["id"]
        again = await sdk.responses.retrieve(response_id, stream=True)
        assert [event.model_dump() async for event in again] == told
        rest = await sdk.responses.retrieve(response_id, stream=True, starting_after=4)
        assert [event.model_dump() async for event in rest] == told[5:]
        check_envelope(
            await http.post(f"{PATH}/resp_none/cancel"), 404, "response_not_found", param="response_id"
        )


async def test_a_background_response_is_cancelled(
    stack: Stack, sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    words = asked(marker, script(text("So far"), stall(60)))
    response = await sdk.responses.create(model="agent", input=words, background=True)
    await eventually(lambda: model.calls(marker), 20, "the request reaches the model")
    assert (await sdk.responses.retrieve(response.id)).status == "in_progress"
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.create(model="agent", input="?", previous_response_id=response.id)
    cancelled = await sdk.responses.cancel(response.id)
    assert (cancelled.status, cancelled.error) == ("cancelled", None)
    assert (await sdk.responses.cancel(response.id)).model_dump() == cancelled.model_dump()
    events = [event async for event in await sdk.responses.retrieve(response.id, stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.status == "cancelled"
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "the model call ends")


async def test_a_response_with_a_connection_cannot_be_cancelled(sdk: AsyncOpenAI) -> None:
    response = await sdk.responses.create(model="agent", input=asked(say("Done.")))
    with pytest.raises(openai.BadRequestError):
        await sdk.responses.cancel(response.id)


async def test_a_deleted_one_is_stopped(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    words = asked(marker, script(stall(60)))
    response = await sdk.responses.create(model="agent", input=words, background=True)
    await eventually(lambda: model.calls(marker), 20, "the request reaches the model")
    await sdk.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(response.id)
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "the model call ends")


async def test_a_failure_is_its_status(sdk: AsyncOpenAI) -> None:
    response = await sdk.responses.create(model="agent", input=asked(script(fail(529))), background=True)
    failed = await ended(sdk, response.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "server_error"
