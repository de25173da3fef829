"""The answers of the Messages API: a message, the events of its stream, a count (version 2023-06-01)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.backline import BacklineInfo
from shared.run_events import Usage

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class SaidText(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A text of the answer."""

    text: str
    citations: None = None


class SaidThinking(msgspec.Struct, frozen=True, tag="thinking", tag_field="type"):
    """A piece of the model's thinking. The CLI keeps its signature: what is sent back is not read."""

    thinking: str
    signature: str = ""


class MadeToolUse(msgspec.Struct, frozen=True, tag="tool_use", tag_field="type"):
    """A call that is the client's to make."""

    id: str
    name: str
    input: dict[str, Any]


Content = SaidText | SaidThinking | MadeToolUse


class MessageUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens over all model calls of the run, as the CLI counted them."""

    input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int = 0
    service_tier: str | UnsetType = UNSET


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The answer; `stop_reason` is null only where a stream begins."""

    id: str
    model: str
    content: list[Content]
    stop_reason: StopReason | None
    usage: MessageUsage
    stop_sequence: str | None = None
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    backline: BacklineInfo | UnsetType = UNSET


class MessageStart(msgspec.Struct, frozen=True, tag="message_start", tag_field="type"):
    """A stream begins, with a message that has nothing in it yet."""

    message: Message


class BlockStart(msgspec.Struct, frozen=True, tag="content_block_start", tag_field="type"):
    """A block begins."""

    index: int
    content_block: Content


class BlockStop(msgspec.Struct, frozen=True, tag="content_block_stop", tag_field="type"):
    """A block is whole."""

    index: int


class TextPiece(msgspec.Struct, frozen=True, tag="text_delta", tag_field="type"):
    """A piece of a text."""

    text: str


class ThinkingPiece(msgspec.Struct, frozen=True, tag="thinking_delta", tag_field="type"):
    """A piece of the model's thinking."""

    thinking: str


class InputPiece(msgspec.Struct, frozen=True, tag="input_json_delta", tag_field="type"):
    """A piece of a call's input, which is JSON text."""

    partial_json: str


class BlockDelta(msgspec.Struct, frozen=True, tag="content_block_delta", tag_field="type"):
    """A block goes on."""

    index: int
    delta: TextPiece | ThinkingPiece | InputPiece


class Ended(msgspec.Struct, frozen=True):
    """How the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(msgspec.Struct, frozen=True, tag="message_delta", tag_field="type"):
    """The end of the answer, and what it took."""

    delta: Ended
    usage: MessageUsage
    backline: BacklineInfo


class MessageStop(msgspec.Struct, frozen=True, tag="message_stop", tag_field="type"):
    """The stream is over."""


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="type"):
    """A sign of life, which every client passes over; with the agent's own tools for one that asked."""

    backline: BacklineInfo | UnsetType = UNSET


class TokenCount(msgspec.Struct, frozen=True):
    """The answer to a count: an estimate."""

    input_tokens: int


def usage_of(usage: Usage) -> MessageUsage:
    """Usage in Anthropic's terms, without the tier."""
    return MessageUsage(
        input_tokens=usage.input_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        output_tokens=usage.output_tokens,
    )
