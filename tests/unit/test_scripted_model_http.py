from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from scripted_model import (
    Usage,
    call,
    cut,
    fail,
    say,
    script,
    serve,
    text,
    think,
    tokens,
    use_tool,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from scripted_model import Script


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serve() as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=10) as client:
        yield client


def body(prompt: object, *, stream: bool = False, after: list[Any] | None = None) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}, *(after or [])]
    return {"model": "claude-test", "max_tokens": 100, "messages": messages, "stream": stream}


async def frames(http: httpx.AsyncClient, prompt: Script) -> list[dict[str, Any]]:
    reply = await http.post("/v1/messages?beta=true", json=body(str(prompt), stream=True))
    assert reply.headers["content-type"].startswith("text/event-stream")
    parsed = []
    for frame in reply.text.removesuffix("\n\n").split("\n\n"):
        name, data = frame.split("\n")
        parsed.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {parsed[-1]['type']}"
    return parsed


async def requests(http: httpx.AsyncClient, marker: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get("/_control/requests", params={"marker": marker})).json()
    return found


async def ended(http: httpx.AsyncClient, marker: str) -> str:
    for _ in range(100):
        [only] = await requests(http, marker)
        if only["ended"] is not None:
            return str(only["ended"])
        await asyncio.sleep(0.01)
    raise AssertionError("the request did not end")


async def test_a_stream_has_anthropics_events_in_their_order(http: httpx.AsyncClient) -> None:
    used = Usage(input=7, output=9, cache_read=3, cache_creation=2)
    events = await frames(http, script(call(think("Hm."), text("Hello there"), usage=used)))
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        "thinking_delta",
        "signature_delta",
        "text_delta",
        "text_delta",
    ]
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"] == {
        "input_tokens": 7,
        "cache_creation_input_tokens": 2,
        "cache_read_input_tokens": 3,
        "output_tokens": 9,
    }


async def test_pace_does_not_drift(http: httpx.AsyncClient) -> None:
    events = await frames(http, script(tokens(40, pace_ms=10, stamp=True)))
    words = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    stamps = [int(word.split(":")[1]) / 1e6 for word in words]
    assert 385 < stamps[-1] - stamps[0] < 450
    assert max(later - sooner for sooner, later in itertools.pairwise(stamps)) > 5


async def test_each_model_call_of_the_turn_plays_the_next_call(http: httpx.AsyncClient) -> None:
    prompt = str(script(call(use_tool("Bash", {}, id="t1")), call(text("done"))))
    result = {
        "type": "tool_result",
        "tool_use_id": "t1",
        "content": [{"type": "text", "text": f"{say('no')}"}],
    }
    step = [{"role": "assistant", "content": []}, {"role": "user", "content": [result]}]
    reasons = []
    for after in ([], step, step * 2):
        reply = (await http.post("/v1/messages", json=body(prompt, after=after))).json()
        reasons.append((reply["stop_reason"], reply["content"][0].get("text")))
    assert reasons == [("tool_use", None), ("end_turn", "done"), ("end_turn", "done")]


async def test_a_failure_later_is_an_error_event_inside_the_open_block(http: httpx.AsyncClient) -> None:
    events = await frames(http, script(text("Half a"), fail(529)))
    assert [event["type"] for event in events[-2:]] == ["content_block_delta", "error"]
    assert events[-1]["error"]["type"] == "overloaded_error"


async def test_a_failure_can_pass_after_some_times(http: httpx.AsyncClient) -> None:
    prompt = str(script(fail(500, times=2), text("ok")))
    statuses = [(await http.post("/v1/messages", json=body(prompt))).status_code for _ in range(4)]
    assert statuses == [500, 500, 200, 200]


@pytest.mark.parametrize("steps", [[cut()], [text("Half a"), cut()]])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_cut_leaves_the_response_unfinished(
    http: httpx.AsyncClient, steps: list[Any], stream: bool
) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post("/v1/messages", json=body(f"snip {script(*steps)}", stream=stream))
    assert await ended(http, "snip") == "cut"


async def test_a_cut_delivers_what_was_said_before(http: httpx.AsyncClient) -> None:
    got: list[bytes] = []

    async def read() -> None:
        prompt = f"{script(text('Half a'), cut())}"
        async with http.stream("POST", "/v1/messages", json=body(prompt, stream=True)) as reply:
            async for chunk in reply.aiter_bytes():
                got.append(chunk)  # noqa: PERF401 - what came before the error counts

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert b'"Half "' in b"".join(got)
    assert b"content_block_stop" not in b"".join(got)


async def test_a_client_that_leaves_is_noticed(http: httpx.AsyncClient) -> None:
    prompt = f"leaver {script(tokens(10_000, pace_ms=5))}"
    async with http.stream("POST", "/v1/messages", json=body(prompt, stream=True)) as reply:
        async for _ in reply.aiter_bytes():
            break
    assert await ended(http, "leaver") == "disconnected"


async def test_requests_are_remembered_until_they_are_cleared(http: httpx.AsyncClient) -> None:
    await http.post("/v1/messages", json=body(f'say "apple" {say("x")}'), headers={"X-Trace": "1"})
    await http.post("/v1/messages", json=body(f"pear {say('x')}"))
    await http.head("/")
    [apple] = await requests(http, 'say "apple"')
    assert (apple["n"], apple["path"], apple["ended"]) == (1, "/v1/messages", "completed")
    assert apple["headers"]["x-trace"] == "1"
    assert apple["body"]["model"] == "claude-test"
    assert apple["received_at_ns"] <= apple["ended_at_ns"] < time.monotonic_ns()
    assert [request["method"] for request in await requests(http)] == ["POST", "POST", "HEAD"]
    await http.delete("/_control/requests")
    assert await requests(http) == []


async def test_the_small_endpoints(http: httpx.AsyncClient) -> None:
    counted = await http.post("/v1/messages/count_tokens?beta=true", json=body("Hello"))
    assert counted.json()["input_tokens"] > 0
    assert (await http.get("/api/anything")).json() == {}
    assert (await http.head("/")).status_code == 200
    assert (await http.post("/api/event_logging", json={})).status_code == 404


@pytest.mark.parametrize(
    ("prompt", "complaint"),
    [
        ("<<script {", "unreadable script directive"),
        ('<<script {"calls": []}>>', "unreadable script directive"),
        ('<<script {"calls": [{"steps": [{"type": "txet"}]}]}>>', "txet"),
        (f"{say('x')}"[:-1], "does not end in >>"),
    ],
)
async def test_a_bad_directive_is_a_400_that_says_why(
    http: httpx.AsyncClient, prompt: str, complaint: str
) -> None:
    reply = await http.post("/v1/messages", json=body(prompt))
    assert reply.status_code == 400
    assert complaint in reply.json()["error"]["message"]


async def test_a_request_that_is_none_is_a_400(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/messages", content=b"{")).status_code == 400
