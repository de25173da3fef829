"""A stored transcript as OpenAI's conversation items: pure, no I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from shared.added_items import AddedItem, ItemRole

Entry = Mapping[str, Any]


class InputText(msgspec.Struct, frozen=True, tag="input_text", tag_field="type"):
    """A text of the user's."""

    text: str


class InputImage(msgspec.Struct, frozen=True, tag="input_image", tag_field="type"):
    """An image of the user's, as a data URL."""

    image_url: str
    detail: Literal["auto"] = "auto"
    file_id: None = None


class InputFile(msgspec.Struct, frozen=True, tag="input_file", tag_field="type"):
    """A file of the user's, as a data URL."""

    file_data: str
    filename: str
    file_id: None = None


class OutputText(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    """A text of the assistant's."""

    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


Content = InputText | InputImage | InputFile | OutputText


class MessageItem(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """One side's say."""

    id: str
    role: ItemRole
    content: list[Content]
    status: Literal["completed"] = "completed"


class ToolItem(msgspec.Struct, frozen=True, tag="backline_tool", tag_field="type"):
    """A tool the agent used by itself: Backline's own item. `arguments` is JSON text."""

    id: str
    name: str
    arguments: str
    output: str | None = None
    is_error: bool = False
    status: Literal["completed"] = "completed"


Item = MessageItem | ToolItem


def item_of(added: AddedItem) -> MessageItem:
    """The item of what a client has added, and no turn has told the model yet."""
    kind = OutputText if added.role == "assistant" else InputText
    return MessageItem(added.id, added.role, [kind(text) for text in added.texts])


def items_of(entries: Sequence[Entry], *, include_tools: bool = False) -> list[Item]:
    """The items of the conversation that ends in the last entry, oldest first.

    What the assistant says until the user speaks again, or a tool that is told of comes between, is one item.
    """
    results = _results(entries)
    items: list[Item] = []
    for entry in chain_of(entries):
        blocks = _blocks(entry)
        if entry.get("isMeta") or entry.get("isSidechain"):
            continue
        if entry.get("type") == "user":
            parts = said_in(entry)
            if parts:
                items.append(MessageItem(id_of(entry), "user", list(parts)))
        elif entry.get("type") == "assistant":
            for block in blocks:
                if block.get("type") == "text" and block.get("text"):
                    _add(items, entry, str(block["text"]))
                elif include_tools and block.get("type") == "tool_use":
                    items.append(_tool(block, results))
    return items


def _add(items: list[Item], entry: Entry, text: str) -> None:
    match items[-1:]:
        case [MessageItem(role="assistant") as last]:
            items[-1] = msgspec.structs.replace(last, content=[*last.content, OutputText(text)])
        case _:
            items.append(MessageItem(id_of(entry), "assistant", [OutputText(text)]))


def said_in(entry: Entry) -> list[InputText | InputImage | InputFile]:
    """What the user said in an entry; nothing for what the CLI put there itself, and for tools' results."""
    if entry.get("type") != "user" or entry.get("isMeta") or entry.get("isSidechain"):
        return []
    return [part for block in _blocks(entry) if (part := _said(block)) is not None]


def id_of(entry: Entry) -> str:
    """The id of the message that begins with an entry."""
    return f"msg_{str(entry.get('uuid', '')).replace('-', '')}"


def chain_of(entries: Sequence[Entry]) -> list[Entry]:
    """From the first entry to the last, each the parent of the next: a session may hold other branches."""
    by_id = {entry["uuid"]: entry for entry in entries if "uuid" in entry}
    chain: list[Entry] = []
    entry = entries[-1] if entries else None
    while entry is not None:
        chain.append(entry)
        by_id.pop(entry.get("uuid"), None)  # a ring would be endless
        entry = by_id.get(entry.get("parentUuid") or entry.get("logicalParentUuid"))
    return chain[::-1]


def _blocks(entry: Entry) -> list[Mapping[str, Any]]:
    message = entry.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def _said(block: Mapping[str, Any]) -> InputText | InputImage | InputFile | None:
    match block:
        case {"type": "text", "text": str(text)}:
            return InputText(text)
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            return InputImage(f"data:{kind};base64,{data}")
        case {
            "type": "document",
            "source": {"type": str(kind), "media_type": str(media_type), "data": str(data)},
        }:
            if kind == "text":
                data = base64.b64encode(data.encode()).decode()
            return InputFile(f"data:{media_type};base64,{data}", str(block.get("title") or ""))
    return None


def _results(entries: Iterable[Entry]) -> dict[str, Mapping[str, Any]]:
    """Tool results by the call they answer: those of parallel calls are not all in the chain."""
    blocks = (block for entry in entries if entry.get("type") == "user" for block in _blocks(entry))
    return {str(block.get("tool_use_id")): block for block in blocks if block.get("type") == "tool_result"}


def _tool(block: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> ToolItem:
    call_id = str(block.get("id", ""))
    result = results.get(call_id)
    return ToolItem(
        id=call_id,
        name=str(block.get("name", "")),
        arguments=msgspec.json.encode(block.get("input", {})).decode(),
        output=_text_of(result) if result is not None else None,
        is_error=bool(result is not None and result.get("is_error")),
    )


def _text_of(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)
