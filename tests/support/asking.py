"""Short ways to ask, and to read what comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol

import httpx
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessageParam

from scripted_model import Script

PATH = "/v1/chat/completions"


def user(*words: object) -> ChatCompletionMessageParam:
    """A user's message."""
    return {"role": "user", "content": " ".join(str(word) for word in words)}


def body(*words: object, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A request's body, for plain HTTP."""
    return {"model": "agent", "messages": [user(*words)], "stream": stream, **fields}


async def ask(sdk: AsyncOpenAI, *words: object, model: str = "agent", **fields: Any) -> ChatCompletion:
    """One question, one whole answer."""
    answer: ChatCompletion = await sdk.chat.completions.create(model=model, messages=[user(*words)], **fields)
    return answer


async def stream(
    sdk: AsyncOpenAI, *words: object, model: str = "agent", **fields: Any
) -> AsyncIterator[ChatCompletionChunk]:
    """One question, its chunks."""
    async with await sdk.chat.completions.create(
        model=model, messages=[user(*words)], stream=True, **fields
    ) as chunks:
        async for chunk in chunks:
            yield chunk


async def until_error(
    sdk: AsyncOpenAI, marker: str, script: Script, **fields: Any
) -> tuple[str, openai.APIError]:
    """Stream to the error that must come; gives the text before it, and the error."""
    text: list[str] = []
    try:
        async for chunk in stream(sdk, marker, script, **fields):
            text += [choice.delta.content or "" for choice in chunk.choices]
    except openai.APIError as error:
        return "".join(text), error
    raise AssertionError(f"the stream ended without an error after {''.join(text)!r}")


def text_of(answer: ChatCompletion) -> str:
    """The answer's text."""
    return answer.choices[0].message.content or ""


def texts(chunks: list[ChatCompletionChunk]) -> list[str]:
    """What each chunk adds, without those that add nothing."""
    return [text for chunk in chunks for choice in chunk.choices if (text := choice.delta.content)]


class Answer(Protocol):
    """An HTTP answer: httpx's, or that of the client the SDK brings along."""

    @property
    def status_code(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def json(self) -> Any: ...


def check_envelope(
    answer: Answer, status: int, code: str | None, *, param: str | None = None
) -> dict[str, Any]:
    """The answer is an error as OpenAI writes them; gives its inside."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    envelope: dict[str, Any] = answer.json()
    assert envelope.keys() == {"error"}
    error: dict[str, Any] = envelope["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    return error


@asynccontextmanager
async def open_stream(
    http: httpx.AsyncClient, *words: object, **fields: Any
) -> AsyncIterator[tuple[httpx.Response, AsyncIterator[str]]]:
    """A stream over plain HTTP, with its lines; leaving the scope hangs up."""
    async with http.stream("POST", PATH, json=body(*words, stream=True, **fields)) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield answer, answer.aiter_lines()


async def first_text(lines: AsyncIterator[str]) -> str:
    """Read to the first text."""
    async for line in lines:
        if line.startswith("data: {"):
            choices = json.loads(line.removeprefix("data: "))["choices"]
            if choices and (text := choices[0]["delta"].get("content")):
                return str(text)
    raise AssertionError("the stream ended without a text")
