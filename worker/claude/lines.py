"""What the Claude CLI writes on its standard output, as far as Backline reads it (stream-json, CLI 2.1).

One JSON object a line. The structs name only what is used and tolerate the rest, because the CLI adds
fields and kinds of lines with every release.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
"""A count that fits into an event."""


class Delta(msgspec.Struct, frozen=True):
    """`delta` of `content_block_delta` and of `message_delta`."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Block(msgspec.Struct, frozen=True):
    """`content_block` of `content_block_start`."""

    type: str = ""
    id: str = ""
    name: str = ""


class TokenCount(msgspec.Struct, frozen=True):
    """`usage` of the Messages API."""

    input_tokens: Number | None = None
    output_tokens: Number | None = None
    cache_read_input_tokens: Number | None = None
    cache_creation_input_tokens: Number | None = None


class MessageHead(msgspec.Struct, frozen=True):
    """`message` of `message_start`."""

    model: str = ""
    usage: TokenCount | None = None


class ApiEvent(msgspec.Struct, frozen=True):
    """The Messages API's own stream event, passed on by the CLI."""

    type: str
    index: int = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: MessageHead | None = None
    usage: TokenCount | None = None


class Line(msgspec.Struct, frozen=True):
    """What every line says of itself; `event` is there for `stream_event`."""

    type: str
    subtype: str = ""
    event: ApiEvent | None = None
    parent_tool_use_id: str | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """A content block of a `user` line; only `tool_result` is of interest."""

    type: str = ""
    tool_use_id: str = ""
    is_error: bool | None = None


class _UserMessage(msgspec.Struct, frozen=True):
    content: list[ToolResult] | str = ""


class UserLine(msgspec.Struct, frozen=True):
    """A `user` line: results of the agent's tools on their way to the model."""

    message: _UserMessage = _UserMessage()


class AssistantLine(msgspec.Struct, frozen=True):
    """An `assistant` line: a message of the model, or a part of it. Its id is the transcript entry's too."""

    uuid: str = ""


class ServerState(msgspec.Struct, frozen=True):
    """One of `mcp_servers` of `system/init`."""

    name: str = ""
    status: str = ""


class Init(msgspec.Struct, frozen=True):
    """`system/init`, which begins every turn: what the CLI now has."""

    tools: list[str] = []
    mcp_servers: list[ServerState] = []


class ApiRetry(msgspec.Struct, frozen=True):
    """`system/api_retry`: a model call failed and will be repeated."""

    attempt: Number = 0
    error_status: Number | None = None
    retry_delay_ms: float = 0.0


class Result(msgspec.Struct, frozen=True):
    """The `result` line that ends a turn. `usage` covers this turn, `total_cost_usd` the whole process."""

    subtype: str = ""
    is_error: bool = False
    result: str | None = None
    stop_reason: str | None = None
    terminal_reason: str | None = None
    api_error_status: int | None = None
    session_id: str = ""
    usage: TokenCount = TokenCount()
    total_cost_usd: float | None = None
    errors: list[str] = []


class _ControlAnswer(msgspec.Struct, frozen=True):
    request_id: str = ""
    subtype: str = ""
    error: str | None = None
    response: dict[str, Any] | None = None


class ControlLine(msgspec.Struct, frozen=True):
    """A `control_response` line."""

    response: _ControlAnswer


class HookInput(msgspec.Struct, frozen=True):
    """`input` of a `hook_callback`: the tool call that the CLI asks about. A sub-agent's has its id."""

    tool_name: str = ""
    tool_use_id: str = ""
    agent_id: str | None = None
    mcp_server: dict[str, Any] | None = None


class Control(msgspec.Struct, frozen=True):
    """`request` of a `control_request` of the CLI's own."""

    subtype: str = ""
    server_name: str = ""
    message: dict[str, Any] = {}
    input: HookInput = HookInput()


class ControlRequest(msgspec.Struct, frozen=True):
    """A `control_request` line: the CLI asks, and waits for the answer."""

    request_id: str
    request: Control


decode_line: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
decode_user: msgspec.json.Decoder[UserLine] = msgspec.json.Decoder(UserLine)
decode_assistant: msgspec.json.Decoder[AssistantLine] = msgspec.json.Decoder(AssistantLine)
decode_init: msgspec.json.Decoder[Init] = msgspec.json.Decoder(Init)
decode_retry: msgspec.json.Decoder[ApiRetry] = msgspec.json.Decoder(ApiRetry)
decode_result: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
decode_control: msgspec.json.Decoder[ControlLine] = msgspec.json.Decoder(ControlLine)
decode_request: msgspec.json.Decoder[ControlRequest] = msgspec.json.Decoder(ControlRequest)
