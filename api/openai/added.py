"""Items that a client adds to a conversation: read, and told with the next turn. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.errors import ApiError
from api.turns import TurnsBuilder
from shared.added_items import AddedItem, ItemRole, new_item_id
from shared.content import TextPart, ToolResultPart, Turn
from shared.runs import RunRequest

_MOST = 20
_ROLES: tuple[ItemRole, ...] = ("user", "assistant", "system", "developer")
_TEXTS = ("input_text", "output_text", "text")


def read_items(items: Sequence[Mapping[str, Any]]) -> list[AddedItem]:
    """Items of a request's body, with new ids; raises `ApiError` 400 for what is no message of text."""
    if len(items) > _MOST:
        said = f"'items' may have at most {_MOST} entries; this has {len(items)}."
        raise ApiError(400, said, param="items", code="array_above_max_length")
    return [_read(item, f"items[{index}]") for index, item in enumerate(items)]


def with_added(run: RunRequest, items: Sequence[AddedItem]) -> RunRequest:
    """The run with `items` told before its own turns; user's next to its prompt become one turn with it.

    Instructions can only be given to a conversation that has not begun; later they are the user's words.
    A run that brings results of tool calls takes none: they must follow the calls at once.
    """
    if not items or (run.session and any(isinstance(part, ToolResultPart) for part in run.prompt)):
        return run
    built = TurnsBuilder()
    system: list[str] = []
    for item in items:
        if item.role in {"system", "developer"} and not run.session:
            system += item.texts
        else:
            parts = [TextPart(text) for text in item.texts]
            built.add("assistant" if item.role == "assistant" else "user", parts)
    for turn in (*run.history, Turn(role="user", parts=run.prompt)):
        built.add(turn.role, turn.parts)
    turns = built.turns()
    return msgspec.structs.replace(
        run,
        history=tuple(turns[:-1]),
        prompt=turns[-1].parts,
        system="\n\n".join([*system, *([run.system] if run.system else [])]) or None,
        items=tuple(item.id for item in items),
    )


def _read(item: Mapping[str, Any], where: str) -> AddedItem:
    if item.get("type", "message") != "message":
        said = f"Invalid '{where}.type': only items of the type 'message' can be added."
        raise ApiError(400, said, param=f"{where}.type", code="unsupported_value")
    role = next((role for role in _ROLES if role == item.get("role")), None)
    if role is None:
        said = f"Invalid '{where}.role': must be one of {', '.join(_ROLES)}."
        raise ApiError(400, said, param=f"{where}.role", code="invalid_value")
    texts = tuple(text for text in _texts(item.get("content"), f"{where}.content") if text.strip())
    if not texts:
        said = f"Invalid '{where}.content': must hold a text."
        raise ApiError(400, said, param=f"{where}.content", code="invalid_value")
    return AddedItem(id=new_item_id(), role=role, texts=texts)


def _texts(content: object, where: str) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        said = f"Invalid '{where}': must be a text, or a list of parts."
        raise ApiError(400, said, param=where, code="invalid_type")
    return [_text(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _text(part: object, where: str) -> str:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in _TEXTS:
            return text
    said = f"Invalid '{where}': only parts of the types {', '.join(_TEXTS)} can be added."
    raise ApiError(400, said, param=where, code="unsupported_value")
