"""A client's conversation as a transcript the CLI resumes, so that the model sees true alternating turns.

The CLI needs of each entry its `type`, `uuid`, `parentUuid`, `timestamp` and `message` (tried field by
field on CLI 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from shared.runs import ImagePart, Part, TextPart, ToolResultPart, ToolUsePart, Turn

_TIMESTAMP = "2026-01-01T00:00:00.000Z"
"""Any will do: the CLI asks for one and sends none to the model."""


def content_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The content blocks of the Messages API for `parts`."""
    return [_block(part) for part in parts]


def transcript_of(history: Sequence[Turn]) -> bytes:
    """The lines of a transcript file that holds `history`; it should end with the assistant's turn."""
    lines: list[bytes] = []
    parent: str | None = None
    for turn in history:
        uuid = str(uuid4())
        entry = {
            "type": turn.role,
            "uuid": uuid,
            "parentUuid": parent,
            "timestamp": _TIMESTAMP,
            "message": {"role": turn.role, "content": content_of(turn.parts)},
        }
        lines.append(msgspec.json.encode(entry))
        parent = uuid
    return b"\n".join(lines) + b"\n"


def _block(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(media_type=media_type, data=data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case ToolUsePart(id=id_, name=name, input=input_):
            return {"type": "tool_use", "id": id_, "name": name, "input": input_}
        case ToolResultPart(tool_use_id=tool_use_id, text=text, is_error=is_error):
            return {"type": "tool_result", "tool_use_id": tool_use_id, "content": text, "is_error": is_error}
