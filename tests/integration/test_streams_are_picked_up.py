"""A chat stream that was asked to go on without its client is picked up where it was broken off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest

from scripted_model import fail, say, script, text, tokens
from tests.integration.test_background_responses import another_api
from tests.support.asking import PATH, body, check_envelope
from tests.support.model import Model
from tests.support.stack import Stack
from tests.support.waiting import eventually

GO_ON: Any = {"backline": {"on_disconnect": "continue"}}
USAGE: Any = {"stream_options": {"include_usage": True}}


async def frames_of(chunks: AsyncIterator[str], most: int | None = None) -> list[str]:
    """Whole frames, at most so many; comments are no frames."""
    found: list[str] = []
    unread = ""
    async for chunk in chunks:
        unread += chunk.replace(": keep-alive\n", "")
        while "\n\n" in unread:
            frame, _, unread = unread.partition("\n\n")
            found.append(frame)
            if len(found) == most:
                return found
    return found


def id_of(frame: str) -> str:
    return frame.rpartition("\nid: ")[2]


async def test_the_rest_comes_from_any_api_process_without_gap_or_repeat(stack: Stack) -> None:
    asked = body(script(tokens(50, pace_ms=30)), stream=True, **GO_ON, **USAGE)
    with another_api(stack) as url:
        async with stack.http() as http, http.stream("POST", PATH, json=asked) as answer:
            run_id = answer.headers["x-backline-run-id"]
            begin = await frames_of(answer.aiter_text(), 15)
        async with httpx.AsyncClient(base_url=url, timeout=50) as other:
            where = f"/v1/runs/{run_id}/events"
            async with other.stream("GET", where, headers={"Last-Event-ID": id_of(begin[-1])}) as answer:
                rest = await frames_of(answer.aiter_text())
            whole = await frames_of((await other.get(where)).aiter_text())
            end = await frames_of((await other.get(where, params={"after": id_of(rest[-3])})).aiter_text())
    assert begin + rest == whole
    assert whole[-1].startswith("data: [DONE]\nid: ")
    assert end == whole[-2:]
    assert "".join(whole).count('"finish_reason":"stop"') == 1


async def test_the_header_says_the_same_and_openais_client_reads_it(stack: Stack) -> None:
    async with stack.sdk() as sdk:
        stream = await sdk.chat.completions.create(
            **body(say("Goes on."), stream=True), extra_headers={"x-backline-on-disconnect": "continue"}
        )
        words = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(words) == "Goes on."


async def test_a_failure_is_told_to_the_one_who_comes_back(http: httpx.AsyncClient) -> None:
    asked = body(script(text("So far "), fail(529)), stream=True, **GO_ON)
    async with http.stream("POST", PATH, json=asked) as answer:
        run_id = answer.headers["x-backline-run-id"]
        told = await frames_of(answer.aiter_text())
    again = await http.get(f"/v1/runs/{run_id}/events")
    assert await frames_of(again.aiter_text()) == told
    assert '"error"' in told[-1]


async def test_only_a_stream_that_asked_for_it_goes_on(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    asked = body(marker, script(tokens(600, pace_ms=50)), stream=True)
    async with http.stream("POST", PATH, json=asked) as answer:
        run_id = answer.headers["x-backline-run-id"]
        await frames_of(answer.aiter_text(), 3)
    gone = await http.get(f"/v1/runs/{run_id}/events")
    check_envelope(gone, 404, "run_not_found", param="run_id")
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "the model call ends")


async def test_it_can_still_be_stopped(http: httpx.AsyncClient, model: Model, marker: str) -> None:
    asked = body(marker, script(tokens(600, pace_ms=50)), stream=True, **GO_ON)
    with suppress(httpx.HTTPError):
        async with http.stream("POST", PATH, json=asked) as answer:
            run_id = answer.headers["x-backline-run-id"]
            await frames_of(answer.aiter_text(), 3)
    assert (await http.delete(f"{PATH}/{run_id.replace('run_', 'chatcmpl-')}")).json()["deleted"]
    await eventually(lambda: model.calls(marker)[-1].ended == "disconnected", 10, "the model call ends")
    told = await http.get(f"/v1/runs/{run_id}/events")
    assert "run_cancelled" in told.text


@pytest.mark.parametrize(
    "fields", [{}, {"stream": True, "n": 2}, {"stream": True, "claude_options": {"output_format": "json"}}]
)
async def test_what_is_no_single_stream_is_refused(http: httpx.AsyncClient, fields: dict[str, Any]) -> None:
    answer = await http.post(PATH, json=body(say("No.")) | GO_ON | fields)
    check_envelope(answer, 400, "invalid_value", param="backline.on_disconnect")


async def test_messages_are_picked_up_too(http: httpx.AsyncClient, stack: Stack) -> None:
    asked = {
        "model": "agent",
        "max_tokens": 500,
        "stream": True,
        "messages": [{"role": "user", "content": str(script(tokens(40, pace_ms=30)))}],
    }
    headers = {"x-backline-on-disconnect": "continue"}
    with another_api(stack) as url:
        async with http.stream("POST", "/v1/messages", json=asked, headers=headers) as answer:
            where = f"/v1/runs/{answer.headers['x-backline-run-id']}/events"
            begin = await frames_of(answer.aiter_text(), 9)
        async with httpx.AsyncClient(base_url=url, timeout=50) as other:
            rest = await other.get(where, headers={"Last-Event-ID": id_of(begin[-1])})
            whole = await frames_of((await other.get(where)).aiter_text())
    assert begin + await frames_of(rest.aiter_text()) == whole
    assert [frame.partition("\n")[0] for frame in (whole[0], whole[-1])] == [
        "event: message_start",
        "event: message_stop",
    ]


@pytest.mark.parametrize("path", [PATH, "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_an_unknown_word_in_the_header_is_refused(http: httpx.AsyncClient, path: str) -> None:
    asked = body(say("No."), stream=True, max_tokens=9) | {"input": "No."}
    asked |= {"prompt": "No."} if path == "/v1/completions" else {}
    answer = await http.post(path, json=asked, headers={"x-backline-on-disconnect": "stay"})
    assert answer.status_code == 400
    assert "x-backline-on-disconnect" in answer.text


async def test_a_place_that_is_none_is_refused(http: httpx.AsyncClient) -> None:
    asked = body(say("Yes."), stream=True, **GO_ON)
    run_id = (await http.post(PATH, json=asked)).headers["x-backline-run-id"]
    answer = await http.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": "x"})
    check_envelope(answer, 400, "invalid_value", param="Last-Event-ID")
