"""Runs wait in a bounded queue, and outlive workers and Redis as far as the truth allows."""

from __future__ import annotations

import asyncio
import time

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import fail, script, stall, text, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, ask, body, check_envelope, first_text, open_stream, stream, text_of
from tests.support.model import Model
from tests.support.waiting import eventually


async def test_a_full_queue_refuses_more(new_stack: NewStack, model: Model, marker: str) -> None:
    stack = new_stack(slots=1, queue_limit=1)
    async with stack.http() as http, stack.sdk() as sdk:
        async with open_stream(http, marker, script(text("one "), stall(60))) as (_, lines):
            await first_text(lines)
            waiting = asyncio.create_task(ask(sdk, marker, script(text("waited"))))
            await eventually(lambda: stack.waiting("agent") == 2, 5, "the second run is queued")
            with pytest.raises(openai.RateLimitError) as caught:
                await ask(sdk, marker, script(text("refused")))
            check_envelope(caught.value.response, 429, "queue_full")
            assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
            assert caught.value.response.headers["x-should-retry"] == "true"
            # Another agent's queue is its own, but the slot is the worker's.
            assert stack.waiting("other") == 0
        assert text_of(await waiting) == "waited"


async def test_more_runs_than_slots_are_all_answered(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=2)
    async with stack.sdk() as sdk:
        answers = await asyncio.gather(*(ask(sdk, marker, script(text(f"answer {i}"))) for i in range(6)))
    assert [text_of(answer) for answer in answers] == [f"answer {i}" for i in range(6)]


async def test_a_run_that_waits_too_long_is_refused(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=1, queue_timeout_s=1)
    async with stack.sdk() as sdk:
        first = asyncio.create_task(ask(sdk, marker, script(tokens(40, pace_ms=50))))
        await eventually(stack.cli_processes, 10, "the first run has begun")
        with pytest.raises(openai.InternalServerError) as caught:
            await ask(sdk, marker, script(text("late")))
        check_envelope(caught.value.response, 503, "queue_timeout")
        assert text_of(await first).endswith("t39")


async def test_a_killed_worker_ends_what_has_spoken_and_repeats_what_has_not(
    new_stack: NewStack, model: Model, marker: str
) -> None:
    stack = new_stack(was_killed=True, on_worker_loss="fail")
    silent = f"{marker}-silent"
    async with stack.sdk() as sdk:
        speaking = asyncio.create_task(_all_of(sdk, marker, script(tokens(800, pace_ms=50))))
        starting = asyncio.create_task(_all_of(sdk, silent, script(stall(4), text("one two"))))
        await eventually(lambda: model.calls(silent), 15, "the silent run has begun")
        await eventually(lambda: len(model.calls(marker)) == 2, 15, "the speaking run has begun")
        await asyncio.sleep(0.5)  # for some tokens to be read
        killed = stack.workers.pop()
        killed.kill()
        stack.start_worker()
        async with asyncio.timeout(30):
            said, error = await speaking
            assert said.startswith("t0 t1")
            assert error is not None
            assert error.code == "worker_lost"
            assert await starting == ("one two", None)
    assert len(model.calls(silent)) == 2


async def test_redis_may_restart_in_mid_stream_and_its_absence_is_said(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack()
    async with stack.http() as http, stack.sdk() as sdk:
        assert (await http.get("/ready")).status_code == 200
        stack.redis.kill()
        answer = await http.post(PATH, json=body("hello"))
        error = check_envelope(answer, 503, "service_unavailable")
        assert error["type"] == "service_unavailable_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert (await http.get("/health")).status_code == 200
        ready = await http.get("/ready")
        assert ready.status_code == 503
        assert "Redis" in ready.json()["reason"]
        with pytest.raises(openai.InternalServerError):
            await ask(sdk, "hello")
        stack.start_redis()
        await asyncio.to_thread(stack.wait_ready)
        assert text_of(await ask(sdk, marker, script(text("yes")))) == "yes"


async def test_a_run_whose_record_redis_lost_is_an_error(new_stack: NewStack, marker: str) -> None:
    """This Valkey keeps nothing on disk: after its restart the run is unknown."""
    stack = new_stack()
    async with stack.http() as http:
        async with open_stream(http, marker, script(tokens(200, pace_ms=50))) as (_, lines):
            await first_text(lines)
            stack.redis.kill()
            stack.start_redis()
            async with asyncio.timeout(40):
                rest = [line async for line in lines]
        assert '"error"' in "".join(rest)
        await eventually(lambda: not stack.cli_processes(), 15, "the CLI is gone")


async def test_a_worker_that_is_asked_to_end_finishes_its_runs_first(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack()
    async with stack.http() as http:
        async with open_stream(http, marker, script(tokens(40, pace_ms=50))) as (_, lines):
            await first_text(lines)
            worker = stack.workers.pop()
            worker.ask_to_end()
            rest = [line async for line in lines]
        assert rest[-3] == "data: [DONE]"
        assert await asyncio.to_thread(worker.exit_code) == 0
        with pytest.raises(httpx.HTTPStatusError):
            (await http.get("/ready")).raise_for_status()


async def test_an_api_that_is_asked_to_end_finishes_its_streams_first(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack()
    async with stack.http() as http, open_stream(http, marker, script(tokens(40, pace_ms=50))) as (_, lines):
        await first_text(lines)
        stack.api.ask_to_end()
        rest = [line async for line in lines]
        assert rest[-3] == "data: [DONE]"
    await asyncio.to_thread(stack.api.exit_code)


async def _all_of(sdk: AsyncOpenAI, *words: object) -> tuple[str, openai.APIError | None]:
    said: list[str] = []
    try:
        async for chunk in stream(sdk, *words):
            said += [choice.delta.content or "" for choice in chunk.choices]
    except openai.APIError as error:
        return "".join(said), error
    return "".join(said), None


async def test_a_storm_of_refusals_fails_nobody_and_is_not_fed(
    new_stack: NewStack, model: Model, marker: str
) -> None:
    stack = new_stack(slots=4, upstream_retries=2)
    storm = fail(529, until=time.time() + 12)
    async with stack.sdk() as sdk:
        asked = [ask(sdk, marker, script(storm, text(f"answer {number}"))) for number in range(16)]
        answers = await asyncio.gather(*asked)
    assert [text_of(answer) for answer in answers] == [f"answer {number}" for number in range(16)]
    assert len(model.calls(marker)) <= 1.5 * len(answers)


async def test_a_waiting_stream_is_told_its_place(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=1, keepalive_s=0.2, stream_hold_s=0.2)
    running = script(text("one "), stall(60))
    async with stack.http() as http, open_stream(http, marker, running) as (_, first):
        await first_text(first)
        waiting = body(marker, script(text("two")), stream=True, service_tier="flex")
        async with http.stream("POST", PATH, json=waiting) as answer:
            comments = (line async for line in answer.aiter_lines() if line.startswith(":"))
            assert await anext(comments) == ": queued position=1"
