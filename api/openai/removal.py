"""A stored transcript without one of its messages: pure, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import msgspec

from api.errors import ApiError
from api.openai.items import Entry, InputText, chain_of, id_of, said_in
from shared.added_items import AddedItem, Rewrite

_DOT = {"role": "user", "content": [{"type": "text", "text": "."}]}
_LINKS = ("parentUuid", "logicalParentUuid")


class Removal(msgspec.Struct, frozen=True):
    """The entries of the new session, and where the conversation then is."""

    entries: list[dict[str, Any]]
    rewrite: Rewrite


def without_item(entries: Sequence[Entry], item_id: str) -> Removal | None:
    """The conversation that ends in the last entry, without a message; `None` when it has none of this id.

    An assistant's message goes with the tools used for it. A user's message that is then left at the end
    waits for the next turn, because a session that ends with one is given an answer of the CLI's own (2.1).
    Raises `ApiError` 400 when that message holds more than text.
    """
    chain = chain_of(entries)
    gone = _gone(chain, item_id)
    if not gone:
        return None
    kept = [entry for entry in chain if entry["uuid"] not in gone and not _is_dot(entry)]
    waiting: list[AddedItem] = []
    while (last := _last_user(kept)) is not None:
        waiting.insert(0, _as_added(kept[last]))
        kept = kept[:last]
    if not any(entry.get("type") == "assistant" for entry in kept):
        return Removal([], Rewrite(session="", head="", waiting=waiting))
    session = str(uuid4())
    written = _written(entries, chain, kept, session)
    head = kept[-1]["uuid"]
    is_same = head == chain[-1]["uuid"]
    return Removal(written, Rewrite(session=session, head=head, ends_as_before=is_same, waiting=waiting))


def _gone(chain: Sequence[Entry], item_id: str) -> set[str]:
    """Ids of the entries that are the message."""
    at = next((index for index, entry in enumerate(chain) if id_of(entry) == item_id), None)
    if at is None:
        return set()
    if said_in(chain[at]):
        return {chain[at]["uuid"]}
    if chain[at].get("type") != "assistant":
        return set()
    first = max((index for index in range(at) if said_in(chain[index])), default=-1) + 1
    while chain[first].get("type") != "assistant":  # what the CLI put beside the user's message stays with it
        first += 1
    end = next((index for index in range(at, len(chain)) if said_in(chain[index])), len(chain))
    return {entry["uuid"] for entry in chain[first:end]}


def _last_user(kept: Sequence[Entry]) -> int | None:
    """Where the user's message stands that no answer follows."""
    for index in range(len(kept) - 1, -1, -1):
        if kept[index].get("type") == "assistant":
            return None
        if said_in(kept[index]):
            return index
    return None


def _as_added(entry: Entry) -> AddedItem:
    parts = said_in(entry)
    texts = tuple(part.text for part in parts if isinstance(part, InputText))
    if len(texts) < len(parts):
        said = (
            "This item cannot be deleted: a message with an image or a file would be left without an answer."
        )
        raise ApiError(400, said, param="item_id", code="unsupported_value")
    return AddedItem(id=id_of(entry), role="user", texts=texts)


def _written(
    entries: Sequence[Entry], chain: Sequence[Entry], kept: Sequence[Entry], session: str
) -> list[dict[str, Any]]:
    """What the new session holds, in the old order, each entry below the nearest one that is still there."""
    stays = {entry["uuid"] for entry in kept}
    answers = {_message_id(entry) for entry in kept} - {None}
    stays |= {entry["uuid"] for entry in entries if _message_id(entry) in answers}
    stays |= {entry["uuid"] for entry in entries if _is_result_of(entry, stays)}
    above = {entry["uuid"]: _above(entry) for entry in chain}
    written = [_moved(entry, stays, above, session) for entry in entries if entry.get("uuid") in stays]
    if not any(said_in(entry) for entry in kept[: _first_answer(kept)]):
        _put_first(written)
    return written


def _is_result_of(entry: Entry, stays: set[str]) -> bool:
    """Whether an entry is the result of a tool call: of parallel calls only one is in the chain."""
    is_result = entry.get("type") == "user" and not entry.get("isMeta") and not said_in(entry)
    return is_result and entry.get("parentUuid") in stays


def _message_id(entry: Entry) -> str | None:
    """Which of the model's messages an entry is a part of; each of its blocks is an entry."""
    message = entry.get("message")
    if entry.get("type") != "assistant" or not isinstance(message, Mapping) or not message.get("id"):
        return None
    return str(message["id"])


def _moved(entry: Entry, stays: set[str], above: Mapping[str, str | None], session: str) -> dict[str, Any]:
    moved = {**entry, **({"sessionId": session} if "sessionId" in entry else {})}
    for link in _LINKS:
        parent = entry.get(link)
        while parent is not None and parent not in stays and parent in above:
            parent = above[parent]
        if link in entry:
            moved[link] = parent
    return moved


def _above(entry: Entry) -> str | None:
    return entry.get("parentUuid") or entry.get("logicalParentUuid")


def _first_answer(kept: Sequence[Entry]) -> int:
    return next(index for index, entry in enumerate(kept) if entry.get("type") == "assistant")


def _is_dot(entry: Entry) -> bool:
    return bool(entry.get("isMeta")) and entry.get("message") == _DOT


def _put_first(written: list[dict[str, Any]]) -> None:
    """Put a user's turn of one dot before the first answer: the model wants the user's turn first."""
    at = next(index for index, entry in enumerate(written) if entry.get("type") == "assistant")
    answer = written[at]
    dot = {
        "type": "user",
        "uuid": str(uuid4()),
        "parentUuid": answer.get("parentUuid"),
        "timestamp": answer.get("timestamp"),
        "sessionId": answer.get("sessionId"),
        "isMeta": True,  # nobody said it: it is not shown
        "message": _DOT,
    }
    answer["parentUuid"] = dot["uuid"]
    written.insert(at, dot)
