"""A client that hangs up cancels its run, and nothing of it is left running.

The contract is one second; the tests wait for three, because the machine that runs them may be busy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psutil
import pytest

from scripted_model import call, script, stall, text, tokens, use_tool
from tests.support.asking import PATH, body, first_text, open_stream
from tests.support.model import Model
from tests.support.processes import with_argument
from tests.support.stack import Stack, running_stack
from tests.support.waiting import eventually

WITHIN_S = 3.0


@pytest.fixture(scope="module")
def narrow(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=1) as stack:
        yield stack


async def reached(model: Model, marker: str) -> None:
    await eventually(lambda: model.calls(marker), 15, "the request reaches the model")


async def gone(stack: Stack, model: Model, marker: str) -> None:
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", WITHIN_S, "the model call ends")
    await eventually(lambda: not stack.cli_processes(), WITHIN_S, "the CLI is gone")


async def test_a_disconnect_cancels_the_run(
    stack: Stack, http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    async with open_stream(http, marker, script(tokens(600, pace_ms=50))) as (_, lines):
        assert await first_text(lines) == "t0"
        assert stack.cli_processes()
    await gone(stack, model, marker)
    assert len(model.calls(marker)) == 1


async def test_a_disconnect_before_the_first_word_cancels_the_run(
    stack: Stack, http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    request = asyncio.create_task(http.post(PATH, json=body(marker, script(stall(60)), stream=True)))
    await reached(model, marker)
    request.cancel()
    await asyncio.wait({request})
    await gone(stack, model, marker)


async def test_a_disconnect_from_a_whole_answer_cancels_the_run(
    stack: Stack, http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    request = asyncio.create_task(http.post(PATH, json=body(marker, script(text("one "), stall(60)))))
    await reached(model, marker)
    request.cancel()
    await asyncio.wait({request})
    await gone(stack, model, marker)


async def test_a_disconnect_at_once_leaves_nothing(
    stack: Stack, http: httpx.AsyncClient, marker: str
) -> None:
    """At any moment of a run's start: before it is queued, claimed, or its CLI has answered."""
    for delay_s in (0.0, 0.005, 0.02, 0.1, 0.25):
        asked = body(marker, script(stall(60)), stream=True)
        request = asyncio.create_task(http.post(PATH, json=asked))
        await asyncio.sleep(delay_s)
        request.cancel()
        await asyncio.wait({request})
    await eventually(lambda: not stack.waiting("agent"), WITHIN_S, "the queue is empty")
    await eventually(lambda: not stack.cli_processes(), WITHIN_S, "the CLIs are gone")


async def test_a_disconnect_while_queued_takes_the_run_out_of_the_queue(
    narrow: Stack, model: Model, marker: str
) -> None:
    async with narrow.http() as http:
        async with open_stream(http, marker, script(text("one "), stall(60))) as (_, lines):
            await first_text(lines)
            queued = asyncio.create_task(http.post(PATH, json=body(marker, "queued-one", script(text("no")))))
            await eventually(lambda: narrow.waiting("agent") == 2, 5, "the second run is queued")
            queued.cancel()
            await asyncio.wait({queued})
            await eventually(lambda: narrow.waiting("agent") == 1, WITHIN_S, "the queued run is gone")
        await gone(narrow, model, marker)
        answer = await http.post(PATH, json=body(marker, script(text("next"))))
        assert answer.json()["choices"][0]["message"]["content"] == "next"
    assert not model.calls("queued-one " + marker)
    assert all("queued-one" not in sent.everything for sent in model.calls(marker))


@pytest.mark.parametrize("is_stream", [True, False])
async def test_a_disconnect_ends_the_tools_children_too(
    stack: Stack, http: httpx.AsyncClient, marker: str, is_stream: bool
) -> None:
    duration = f"300.{random.randrange(10**9)}"  # noqa: S311 - a word to find the processes by
    command = f"nohup setsid sleep {duration} >/dev/null 2>&1 & sleep {duration}"
    asked = script(call(text("Wait."), use_tool("Bash", {"command": command})), call(text("done")))
    request = asyncio.create_task(http.post(PATH, json=body(marker, asked, stream=is_stream)))
    try:
        await eventually(lambda: len(_sleeping(duration)) == 2, 15, "both sleepers run")
        request.cancel()
        await asyncio.wait({request})
        await eventually(lambda: not _sleeping(duration), WITHIN_S, "both sleepers are gone")
        await eventually(lambda: not stack.cli_processes(), WITHIN_S, "the CLI is gone")
    finally:
        for process in _sleeping(duration):
            process.kill()


async def test_a_detached_child_does_not_outlive_a_run_that_ends_well(
    stack: Stack, http: httpx.AsyncClient, marker: str
) -> None:
    duration = f"300.{random.randrange(10**9)}"  # noqa: S311
    command = f"nohup setsid sleep {duration} >/dev/null 2>&1 & echo started"
    asked = script(call(use_tool("Bash", {"command": command})), call(text("done")))
    try:
        answer = await http.post(PATH, json=body(marker, asked))
        assert answer.json()["choices"][0]["message"]["content"] == "done"
        await eventually(lambda: not _sleeping(duration), 5, "the sleeper is gone")
    finally:
        for process in _sleeping(duration):
            process.kill()


def _sleeping(duration: str) -> list[psutil.Process]:
    found = []
    for process in with_argument(duration):
        with suppress(psutil.Error):
            if process.name() == "sleep":
                found.append(process)
    return found
