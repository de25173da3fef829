"""What is said in a conversation: turns, and the parts they are made of."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """Plain text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """An image. `data` is base64; `media_type` is one of the model's (`image/png`, …)."""

    media_type: str
    data: str


class DocumentPart(msgspec.Struct, frozen=True, tag="document"):
    """A document: `application/pdf` with `data` in base64, or `text/plain` with `data` as it is.

    `title` is what it is called; empty when it has no name.
    """

    media_type: Literal["application/pdf", "text/plain"]
    data: str
    title: str = ""


class ToolUsePart(msgspec.Struct, frozen=True, tag="tool_use"):
    """A call the assistant made in an earlier turn. `input` is the decoded JSON object."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultPart(msgspec.Struct, frozen=True, tag="tool_result"):
    """What a call of an earlier turn gave back."""

    tool_use_id: str
    text: str
    is_error: bool = False


Part = TextPart | ImagePart | DocumentPart | ToolUsePart | ToolResultPart


class Turn(msgspec.Struct, frozen=True):
    """One side's say in a conversation; neighbouring turns have different roles."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]
