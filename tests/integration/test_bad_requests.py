"""What cannot be honoured is refused at once, in OpenAI's envelope, with the place that is wrong."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from tests.support.asking import PATH, body, check_envelope, user
from tests.support.stack import Stack

HI = {"role": "user", "content": "hi"}
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def asking(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "agent", "messages": list(messages), **fields}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b'{"model": "agent", "messages": [{"role": "user", "content": "\xff"}]}', "invalid_json"),
        (b'{"a":' + b"[" * 100_000, "invalid_json"),
        (b"NaN", "invalid_json"),
        (b"[]", "invalid_type"),
        (b'"text"', "invalid_type"),
        (b"null", "invalid_type"),
    ],
)
async def test_a_body_that_is_no_json_object_is_refused(
    http: httpx.AsyncClient, content: bytes, code: str
) -> None:
    answer = await http.post(PATH, content=content, headers={"content-type": "application/json"})
    error = check_envelope(answer, 400, code)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"messages": [HI]}, "model", "missing_required_parameter"),
        ({"model": "agent"}, "messages", "missing_required_parameter"),
        ({"model": 1, "messages": [HI]}, "model", "invalid_type"),
        ({"model": None, "messages": [HI]}, "model", "invalid_type"),
        ({"model": "agent", "messages": "hi"}, "messages", "invalid_type"),
        (asking(), "messages", "invalid_value"),
        (asking({"role": "system", "content": "be good"}), "messages", "invalid_value"),
        (asking({"role": "user", "content": ""}), "messages", "invalid_value"),
        (asking({"role": "user", "content": []}), "messages", "invalid_value"),
        (asking(HI, {"role": "assistant", "content": "hello"}), "messages[1]", "invalid_value"),
        (asking(HI, {"role": "wizard", "content": "hello"}), "messages[1].role", "invalid_value"),
        (asking(HI, {"content": "hello"}), "messages[1].role", "missing_required_parameter"),
        (asking(HI, 7), "messages[1]", "invalid_type"),
        (asking(HI, {"role": "user", "content": 7}), "messages[1].content", "invalid_type"),
        (asking({"role": "user"}), "messages[0].content", "missing_required_parameter"),
        (
            asking({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
            "messages[0].content[0]",
            "unsupported_value",
        ),
        (
            asking(
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "file", "file": {}}]}
            ),
            "messages[0].content[1].file.file_data",
            "missing_required_parameter",
        ),
        (
            asking({"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}),
            "messages[0].content[0].file.file_id",
            "invalid_value",
        ),
        (
            asking({"role": "user", "content": [PIXEL]}),
            "messages[0].content[0].image_url.url",
            "invalid_image_url",
        ),
        (asking(HI, n=9), "n", "invalid_value"),
        (asking(HI, tools=[TOOL], tool_choice="sometimes"), "tool_choice", "invalid_value"),
        (asking(HI, stop=["a", "b", "c", "d", "e"]), "stop", "invalid_value"),
        (asking(HI, temperature=2.5), "temperature", "invalid_value"),
        (asking(HI, temperature="hot"), "temperature", "invalid_type"),
        (asking(HI, top_p=-1), "top_p", "invalid_value"),
        (asking(HI, max_tokens=0), "max_tokens", "invalid_value"),
        (asking(HI, max_completion_tokens=-1), "max_completion_tokens", "invalid_value"),
        (asking(HI, stream_options={"include_usage": "yes"}), "stream_options.include_usage", "invalid_type"),
        (
            asking(HI, {"role": "tool", "tool_call_id": "call_9", "content": "sun"}),
            "messages[1].tool_call_id",
            "invalid_value",
        ),
        (
            asking(
                HI,
                {
                    "role": "assistant",
                    "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[1]"}}
                    ],
                },
                HI,
            ),
            "messages[1].tool_calls[0].function.arguments",
            "invalid_value",
        ),
    ],
)
async def test_a_wrong_field_is_named(
    http: httpx.AsyncClient, asked: dict[str, Any], param: str, code: str, is_stream: bool
) -> None:
    answer = await http.post(PATH, json={**asked, "stream": is_stream})
    error = check_envelope(answer, 400, code, param=param)
    assert error["type"] == "invalid_request_error"


async def test_a_stream_that_is_no_boolean_is_refused(http: httpx.AsyncClient) -> None:
    check_envelope(await http.post(PATH, json=asking(HI, stream="yes")), 400, "invalid_type", param="stream")


async def test_the_sdk_raises_its_own_class(sdk: AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await sdk.chat.completions.create(model="agent", messages=[])
    assert (caught.value.code, caught.value.param) == ("invalid_value", "messages")
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id


async def test_null_is_as_good_as_nothing(http: httpx.AsyncClient) -> None:
    optional = (
        "stream",
        "stream_options",
        "max_tokens",
        "temperature",
        "top_p",
        "stop",
        "n",
        "tools",
        "seed",
    )
    answer = await http.post(PATH, json=asking(HI, **dict.fromkeys(optional)))
    assert answer.status_code == 200, answer.text


async def test_a_body_that_is_too_large_is_refused(hasty: Stack) -> None:
    async with hasty.http() as http:
        check_envelope(await http.post(PATH, json=body("x" * 1_100_000)), 413, "request_too_large")


async def test_a_body_of_unknown_length_that_is_too_large_is_refused(hasty: Stack) -> None:
    async with hasty.http() as http:

        async def pieces() -> Any:
            for _ in range(12):
                yield b" " * 100_000

        check_envelope(await http.post(PATH, content=pieces()), 413, "request_too_large")


async def test_an_unknown_route_is_not_found(sdk: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    error = check_envelope(await http.get("/v1/nothing"), 404, "unknown_url")
    assert error["message"] == "Unknown request URL: GET /v1/nothing."
    with pytest.raises(openai.NotFoundError):
        await sdk.fine_tuning.jobs.list()


@pytest.mark.parametrize(("method", "path"), [("PUT", PATH), ("DELETE", PATH), ("POST", "/v1/models")])
async def test_a_wrong_method_is_refused(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    check_envelope(answer, 405, "method_not_allowed")
    assert answer.headers.get("allow")


async def test_the_content_type_does_not_matter(http: httpx.AsyncClient) -> None:
    """Some clients send none, or text/plain."""
    content = json.dumps(asking(user("hi"), max_tokens="many"))
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await http.post(PATH, content=content, headers={"content-type": kind})
        check_envelope(answer, 400, "invalid_type", param="max_tokens")
