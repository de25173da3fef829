"""A client's conversation as a transcript the CLI resumes, so that the model sees true alternating turns.

The CLI needs of each entry its `type`, `uuid`, `parentUuid`, `timestamp` and `message` (tried field by
field on CLI 2.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import msgspec

from shared.content import DocumentPart, ImagePart, Part, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.runs import RunRequest

_TIMESTAMP = "2026-01-01T00:00:00.000Z"
"""Any will do: the CLI asks for one and sends none to the model."""


Entry = dict[str, Any]
Message = dict[str, Any]


def content_of(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The content blocks of the Messages API for `parts`."""
    return [_block(part) for part in parts]


def messages_of(turns: Sequence[Turn]) -> list[Message]:
    """The messages of the Messages API for `turns`."""
    return [{"role": turn.role, "content": content_of(turn.parts)} for turn in turns]


def user_frame(message: Message) -> dict[str, Any]:
    """The frame that says `message` to the CLI, verbatim: no `@path`, no slash command (CLI 2.1)."""
    return {
        "type": "user",
        "message": message,
        "parent_tool_use_id": None,
        "session_id": "",
        "client_composed": True,
    }


def split_at_calls(entries: Sequence[Entry], head: str) -> tuple[Sequence[Entry], list[Message]]:
    """Split a stored transcript that ends in unanswered calls into what is resumed and what is then said.

    `head` is the id of its newest entry. What is resumed ends before the user's last words: the CLI (2.1)
    gives a resumed call that has no result one of its own. The messages that follow keep their ids and
    models, without which it leaves out their thinking.
    """
    by_id = {entry["uuid"]: entry for entry in entries if "uuid" in entry}
    said: list[Message] = []
    place: str | None = head
    while place is not None and (entry := by_id.get(place)) is not None:
        place = entry.get("parentUuid")
        if entry.get("type") in {"user", "assistant"}:
            said.append(entry["message"])
            if entry["type"] == "user" and not _has_result(entry["message"]):
                break
    resumed = [index for index, entry in enumerate(entries) if entry.get("uuid") == place]
    return entries[: resumed[0] + 1] if place is not None and resumed else (), said[::-1]


def _has_result(message: Message) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(block.get("type") == "tool_result" for block in content)


def has_results(request: RunRequest) -> bool:
    """Whether the prompt answers calls of the turn before it."""
    return any(isinstance(part, ToolResultPart) for part in request.prompt)


def split_history(request: RunRequest, history: Sequence[Turn]) -> tuple[Sequence[Turn], Sequence[Turn]]:
    """Split the history into what is resumed and what is then said turn by turn.

    A transcript that ends in an unanswered tool call loses the results that follow it (CLI 2.1), so the call
    and the user's turn before it are given to the running CLI instead.
    """
    return (history[:-2], history[-2:]) if has_results(request) else (history, ())


def transcript_of(history: Sequence[Turn]) -> bytes:
    """The lines of a transcript file that holds `history`; it should end with the assistant's turn."""
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries_of(messages_of(history), None))


def entries_of(messages: Sequence[Message], parent: str | None) -> list[Entry]:
    """Entries that a transcript may have for `messages`, each the child of the one before, from `parent`."""
    entries: list[Entry] = []
    for message in messages:
        uuid = str(uuid4())
        entries.append(
            {
                "type": message["role"],
                "uuid": uuid,
                "parentUuid": parent,
                "timestamp": _TIMESTAMP,
                "message": message,
            }
        )
        parent = uuid
    return entries


def _block(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(media_type=media_type, data=data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case DocumentPart():
            return _document(part)
        case ToolUsePart(id=id_, name=name, input=input_):
            return {"type": "tool_use", "id": id_, "name": name, "input": input_}
        case ToolResultPart(tool_use_id=tool_use_id, text=text, is_error=is_error):
            return {"type": "tool_result", "tool_use_id": tool_use_id, "content": text, "is_error": is_error}


def _document(part: DocumentPart) -> dict[str, Any]:
    kind = "text" if part.media_type == "text/plain" else "base64"
    source = {"type": kind, "media_type": part.media_type, "data": part.data}
    named = {"title": part.title} if part.title else {}
    return {"type": "document", "source": source, **named}
