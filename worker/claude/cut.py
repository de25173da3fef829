"""What of a turn that met the token limit is the conversation's.

The CLI (2.1) does not end there: it tells the model to go on, and notes that it was interrupted when it is
stopped. Up to the answer that was cut off its transcript is as the client has seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from worker.claude.transcript import Entry


def until_cut(entries: Sequence[Entry]) -> list[Entry]:
    """A turn's entries to the end of the answer that met the limit; none when no text of it is there."""
    cut = next((index for index, entry in enumerate(entries) if _message(entry, "max_tokens")), None)
    if cut is None:
        return []
    end = cut
    while end < len(entries) and entries[end].get("type") == "assistant":
        end += 1
    return list(entries[:end]) if _ends_with_text(entries[end - 1]) else []


def _message(entry: Entry, stop_reason: str) -> bool:
    message = entry.get("message")
    is_answer = entry.get("type") == "assistant" and isinstance(message, Mapping)
    return is_answer and message is not None and message.get("stop_reason") == stop_reason


def _ends_with_text(entry: Entry) -> bool:
    """Whether the model can go on from it: not from thinking alone, nor from a call without a result."""
    blocks = entry["message"].get("content")
    return isinstance(blocks, list) and bool(blocks) and blocks[-1].get("type") == "text"
