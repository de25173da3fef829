"""Lines as CLI 2.1 writes them."""

from __future__ import annotations

import json
from typing import Any

SESSION = "6b3c8f1e-0000-4000-8000-000000000000"


MODEL = "claude-sonnet-5-20260101"


def line(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "session_id": SESSION, "uuid": "u", **fields}).encode()


def api(kind: str, parent: str | None = None, **fields: Any) -> bytes:
    return line("stream_event", event={"type": kind, **fields}, parent_tool_use_id=parent)


def message_start(parent: str | None = None, **usage: int) -> bytes:
    counts = {"input_tokens": 10, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20} | usage
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [],
        "stop_reason": None,
        "usage": {"output_tokens": 1, "service_tier": "standard", **counts},
    }
    return api("message_start", parent, message=message)


def block_start(block: dict[str, Any], index: int = 0, parent: str | None = None) -> bytes:
    return api("content_block_start", parent, index=index, content_block=block)


def delta(kind: str, index: int = 0, parent: str | None = None, **fields: str) -> bytes:
    return api("content_block_delta", parent, index=index, delta={"type": kind, **fields})


def stop(index: int = 0, parent: str | None = None) -> bytes:
    return api("content_block_stop", parent, index=index)


def message_end(reason: str = "end_turn", output: int = 7, parent: str | None = None) -> list[bytes]:
    ending = {"stop_reason": reason, "stop_sequence": None}
    return [
        api("message_delta", parent, delta=ending, usage={"output_tokens": output}),
        api("message_stop", parent),
    ]


def text(*pieces: str, index: int = 0, parent: str | None = None) -> list[bytes]:
    return [
        block_start({"type": "text", "text": ""}, index, parent),
        *(delta("text_delta", index, parent, text=piece) for piece in pieces),
        stop(index, parent),
    ]


def tool(id_: str, name: str, *pieces: str, index: int = 1, parent: str | None = None) -> list[bytes]:
    block = {"type": "tool_use", "id": id_, "name": name, "input": {}}
    return [
        block_start(block, index, parent),
        *(delta("input_json_delta", index, parent, partial_json=piece) for piece in pieces),
        stop(index, parent),
    ]


def tool_result(id_: str, *, is_error: bool | None = None, parent: str | None = None) -> bytes:
    block: dict[str, Any] = {"type": "tool_result", "tool_use_id": id_, "content": "done"}
    if is_error is not None:
        block["is_error"] = is_error
    return line("user", message={"role": "user", "content": [block]}, parent_tool_use_id=parent)


def result(**fields: Any) -> bytes:
    usual = {
        "subtype": "success",
        "is_error": False,
        "duration_ms": 100,
        "num_turns": 1,
        "result": "said",
        "stop_reason": "end_turn",
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 3}
        | {"cache_creation_input_tokens": 4, "server_tool_use": {"web_search_requests": 0}},
        "modelUsage": {},
        "permission_denials": [],
    }
    return line("result", **(usual | fields))


def retry(status: int | None, attempt: int = 1) -> bytes:
    return line(
        "system",
        subtype="api_retry",
        attempt=attempt,
        max_retries=2,
        retry_delay_ms=512.5,
        error_status=status,
        error="overloaded_error",
    )


INIT = line("system", subtype="init", cwd="/x", tools=["Bash"], model=MODEL, permissionMode="dontAsk")


NOISE = [
    INIT,
    line("rate_limit_event", rate_limit_info={"status": "allowed"}),
    line("assistant", message={"role": "assistant", "content": [{"type": "text", "text": "said"}]}),
    line("user", message={"role": "user", "content": "plain text"}),
    line("control_request", request_id="x", request={"subtype": "can_use_tool"}),
    line("keep_alive"),
    line("a_kind_of_the_future", event={"type": "x"}),
]
