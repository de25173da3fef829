"""Anthropic's shapes: stream events, their SSE frames, the folded message, errors. Pure functions.

Source: https://docs.anthropic.com/en/api/messages-streaming and https://docs.anthropic.com/en/api/errors
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripted_model.language import Usage

Event: TypeAlias = dict[str, Any]

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

_DELTA_FIELDS = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}


def new_id(prefix: str) -> str:
    """Make an id as Anthropic's look, such as ``msg_…``."""
    return f"{prefix}_01{uuid4().hex[:22]}"


def usage(counted: Usage, *, estimated_input: int, output: int) -> dict[str, int]:
    """Usage as the wire has it; ``counted`` wins over the estimate."""
    return {
        "input_tokens": estimated_input if counted.input is None else counted.input,
        "cache_creation_input_tokens": counted.cache_creation,
        "cache_read_input_tokens": counted.cache_read,
        "output_tokens": output if counted.output is None else counted.output,
    }


def message_start(model: str, used: dict[str, int]) -> Event:
    """Open the message."""
    message: dict[str, Any] = {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": used,
    }
    return {"type": "message_start", "message": message}


def block_start(index: int, block: dict[str, Any]) -> Event:
    """Open the content block ``index``."""
    return {"type": "content_block_start", "index": index, "content_block": block}


def block_delta(index: int, kind: str, piece: str) -> Event:
    """Add to a block; ``kind`` is one of ``text_delta``, ``thinking_delta`` and so on."""
    return {
        "type": "content_block_delta",
        "index": index,
        "delta": {"type": kind, _DELTA_FIELDS[kind]: piece},
    }


def block_stop(index: int) -> Event:
    """Close the content block ``index``."""
    return {"type": "content_block_stop", "index": index}


def message_delta(reason: str, sequence: str | None, used: dict[str, int]) -> Event:
    """Say why the message stops and what it cost."""
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": sequence},
        "usage": used,
    }


def message_stop() -> Event:
    """Close the message."""
    return {"type": "message_stop"}


def error(status: int, kind: str | None, message: str) -> Event:
    """Describe a failure, in the shape that serves as HTTP body and as stream event alike."""
    fallback = "api_error" if status >= 500 else "invalid_request_error"
    return {"type": "error", "error": {"type": kind or ERROR_TYPES.get(status, fallback), "message": message}}


def sse(event: Event) -> bytes:
    """One SSE frame."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event))


def fold(events: Iterable[Event]) -> dict[str, Any]:
    """Build the message that a client without ``stream`` gets: the same events, added up."""
    message: dict[str, Any] = {}
    for event in events:
        match event["type"]:
            case "message_start":
                message = {**event["message"], "content": []}
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                _grow(message["content"][-1], event["delta"])
            case "content_block_stop":
                _settle(message["content"][-1])
            case "message_delta":
                message |= event["delta"]
                message["usage"] = event["usage"]
    return message


def _grow(block: dict[str, Any], delta: dict[str, str]) -> None:
    field = _DELTA_FIELDS[delta["type"]]
    block[field] = block.get(field, "") + delta[field]


def _settle(block: dict[str, Any]) -> None:
    partial = block.pop("partial_json", "")
    if partial:
        block["input"] = json.loads(partial)
