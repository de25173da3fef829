"""The items of a request's input: read, and as they are kept. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from api.decode import converted
from api.errors import ApiError
from api.openai.responses.objects import (
    CustomCallOutput,
    FunctionCallOutput,
    MessageOutput,
    OutputItem,
    TextContent,
)
from api.openai.responses.wire import Item

RawItem = dict[str, Any]

_PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "reasoning": "rs",
}


class Placed(msgspec.Struct, frozen=True):
    """An item and where it stands in the request, as an error names it."""

    item: Item
    where: str


def raw_items(given: str | Sequence[RawItem] | None) -> list[RawItem]:
    """The input as items that all have a type; a text is a message of the user's."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}] if given.strip() else []
    return [_typed(item) for item in given]


def read_items(raw: Sequence[RawItem], where: str) -> list[Placed]:
    """Items out of their JSON; raises `ApiError` 400, whose `param` begins with `where`."""
    read: list[Item] = converted(list(raw), list[Item], where)
    return [Placed(item, f"{where}[{index}]") for index, item in enumerate(read)]


def referenced_in(raw: Sequence[RawItem]) -> set[str]:
    """The ids that item references name."""
    return {str(item.get("id", "")) for item in raw if item["type"] == "item_reference"}


def with_references(raw: Sequence[RawItem], known: Mapping[str, RawItem]) -> list[RawItem]:
    """The items with those in place that references name; raises `ApiError` 404 for an unknown one."""
    found: list[RawItem] = []
    for item in raw:
        item_id = str(item.get("id", ""))
        if item["type"] != "item_reference":
            found.append(item)
        elif item_id in known:
            found.append(known[item_id])
        else:
            said = f"Item with id '{item_id[:100]}' not found."
            raise ApiError(404, said, param="input", code="item_not_found")
    return found


def kept_items(raw: Sequence[RawItem], key: str) -> list[RawItem]:
    """The items as they are listed: each with an id (made of `key`), messages with parts."""
    return [
        _kept(item, f"{_PREFIXES.get(item['type'], 'item')}_{key}_in{index}")
        for index, item in enumerate(raw)
    ]


def output_items(output: Sequence[OutputItem]) -> list[RawItem]:
    """What a response said, as input of the next one: its messages joined, then its calls.

    The answer of a run is one text, whatever thinking or tools stood between; that is how the session that
    holds it knows it.
    """
    texts = [
        part.text if isinstance(part, TextContent) else part.refusal
        for item in output
        if isinstance(item, MessageOutput)
        for part in item.content
    ]
    said = "\n\n".join(text for text in texts if text.strip())
    found: list[RawItem] = [{"type": "message", "role": "assistant", "content": said}] if said else []
    calls = [item for item in output if isinstance(item, FunctionCallOutput | CustomCallOutput)]
    return found + [msgspec.to_builtins(call) for call in calls if call.status == "completed"]


def _typed(item: RawItem) -> RawItem:
    """An easy message, or a reference, may leave its type out."""
    if item.get("type") is not None:
        return item
    rest = {name: value for name, value in item.items() if name != "type"}
    return {"type": "message" if "role" in item else "item_reference", **rest}


def _kept(item: RawItem, item_id: str) -> RawItem:
    kept = {**item, "id": item.get("id") or item_id}
    if item["type"] == "message":
        kept["status"] = item.get("status") or "completed"
        if isinstance(item.get("content"), str):
            kind = "output_text" if item.get("role") == "assistant" else "input_text"
            part: RawItem = {"type": kind, "text": item["content"]}
            kept["content"] = [{**part, "annotations": []} if kind == "output_text" else part]
    elif item["type"].endswith(("_call", "_output")):
        kept["status"] = item.get("status") or "completed"
    return kept
