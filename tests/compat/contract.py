"""What every answer must be: by OpenAI's own document on OpenAI's paths, by Anthropic's types on theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema_rs
import msgspec
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests.compat.proxy import Exchange
from tests.compat.reduce import load

_SLIPS = {("/paths/~1chat~1completions~1{completion_id}~1messages/get", "role")}
"""The document allows a stored message no role but the assistant's; its own example is a user's."""
_ERROR = "/components/schemas/ErrorResponse"
_KINDS = {"choices", "object", "type"}
"""What has one of them is no error, even if it tells of one."""
_ANTHROPIC = "/v1/messages"
_RESPONSES = "/v1/responses"
_LAST = {"response.completed", "response.incomplete", "response.failed"}
_ANTHROPIC_ANSWERS: dict[str, TypeAdapter[Any]] = {
    _ANTHROPIC: TypeAdapter(Message),
    f"{_ANTHROPIC}/count_tokens": TypeAdapter(MessageTokensCount),
}
_ANTHROPIC_EVENTS: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def check(exchange: Exchange) -> None:
    """Raise an AssertionError unless the answer, or as much of it as came, is as documented."""
    if not exchange.status:
        return  # the client hung up first
    if exchange.path.startswith(_ANTHROPIC):
        _check_anthropic(exchange)
    else:
        _check_openai(exchange)


def frames(exchange: Exchange) -> list[Any]:
    """The JSON of a stream's frames; a stream that ended by itself must say how: `[DONE]` or an error."""
    *whole, rest = exchange.answer.decode().split("\n\n")
    data = [line.removeprefix("data: ") for frame in whole for line in _data_lines(frame)]
    if exchange.path.startswith((_ANTHROPIC, _RESPONSES)):
        events = [msgspec.json.decode(line) for line in data]
        if exchange.is_whole and exchange.path.startswith(_RESPONSES):
            assert events[-1]["type"] in _LAST, f"the stream ends with {events[-1]}"
        return events
    is_done = bool(data) and data[-1] == "[DONE]"
    decoded = [msgspec.json.decode(line) for line in (data[:-1] if is_done else data)]
    if exchange.is_whole:
        assert not rest, f"the stream ends within a frame: {rest!r}"
        assert is_done or "error" in decoded[-1], "the stream ends without [DONE] and without an error"
    return decoded


def _data_lines(frame: str) -> Iterator[str]:
    for line in frame.split("\n"):
        if line.startswith("data: "):
            yield line
        else:
            # A blank line after a comment would end an event that has no data: SDKs fail on it.
            assert line == ": keep-alive" or line.startswith(("event: ", "id: ")), f"odd line {line!r}"


def _check_openai(exchange: Exchange) -> None:
    kind = exchange.headers["content-type"].partition(";")[0]
    if exchange.status >= 400:
        assert kind == "application/json", exchange
        _conforms(_ERROR, exchange.json(), exchange)
    elif place := _place(exchange, kind):
        bodies = frames(exchange) if kind == "text/event-stream" else [exchange.json()]
        for body in bodies if exchange.is_whole or kind == "text/event-stream" else ():
            _conforms(_ERROR if "error" in body and not _KINDS & set(body) else place, body, exchange)


def _place(exchange: Exchange, kind: str) -> str | None:
    """Where in the document the schema of this answer stands; None for paths that are not OpenAI's."""
    for path, item in load_once()["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path)
        # A model's name may hold a slash: agent/model.
        pattern = pattern.replace("/models/[^/]+", "/models/.+")
        if re.fullmatch(f"/v1{pattern}", exchange.path) and exchange.method.lower() in item:
            answers = item[exchange.method.lower()]["responses"]["200"].get("content", {})
            if kind not in answers:
                return _elsewhere(path, kind)
            step, kind = path.replace("~", "~0").replace("/", "~1"), kind.replace("/", "~1")
            return f"/paths/{step}/{exchange.method.lower()}/responses/200/content/{kind}/schema"
    return None


def _elsewhere(path: str, kind: str) -> str | None:
    """Where the schema of an answer stands of which the document says nothing at the path itself."""
    if path == "/responses/{response_id}" and kind == "text/event-stream":
        return "/paths/~1responses/post/responses/200/content/text~1event-stream/schema"
    # A deleted response has none; nor have streamed legacy completions, whose pieces end for no reason yet.
    assert path in {"/completions", "/responses/{response_id}"}, f"{path} answers {kind}"
    return None


def _conforms(place: str, body: Any, exchange: Exchange) -> None:
    said = [
        f"{error.instance_path}: {error.message[:300]}"
        for error in _validator(place).iter_errors(body)
        if not any(place.startswith(path) and error.instance_path[-1:] == [name] for path, name in _SLIPS)
    ]
    assert not said, f"{exchange.method} {exchange.path} answered {body!r:.2000}, but: {said[:5]}"


@cache
def load_once() -> dict[str, Any]:
    return load()


@cache
def _validator(place: str) -> jsonschema_rs.Draft202012Validator:
    fragment = place.replace("{", "%7B").replace("}", "%7D").replace("~", "~")
    return jsonschema_rs.Draft202012Validator({"$ref": f"#{fragment}", **load_once()})


def _check_anthropic(exchange: Exchange) -> None:
    if exchange.status >= 400:
        error = exchange.json()
        assert error.get("type") == "error", error
        assert isinstance(error["error"]["type"], str), error
        assert isinstance(error["error"]["message"], str), error
    elif exchange.headers["content-type"].startswith("text/event-stream"):
        for event in frames(exchange):
            if event["type"] not in {"ping", "error"}:
                _ANTHROPIC_EVENTS.validate_python(event)
    elif exchange.is_whole and exchange.path in _ANTHROPIC_ANSWERS:
        _ANTHROPIC_ANSWERS[exchange.path].validate_python(exchange.json())
