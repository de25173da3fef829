"""The lines of a batch's output and error files, and the gathering of results into blobs."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping

import msgspec

from shared.batches.records import Batch, Item, Outcome

UNFINISHED = {
    "expired": ("batch_expired", "This request could not be executed before the completion window expired."),
    "cancelled": ("batch_cancelled", "This request was not executed, because the batch was cancelled."),
}
"""By the status in which a batch ends: what is told of the lines that were not done."""

_OUTPUT, _ERROR = b"o", b"e"


class _Response(msgspec.Struct, frozen=True):
    status_code: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Line(msgspec.Struct, frozen=True):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


def request_id_of(batch_id: str, number: int) -> str:
    """What a line's request is called in the answer and in logs; the same each time."""
    return f"req_{_digest(batch_id, number)}"


def is_completed(outcome: Outcome) -> bool:
    """Whether a line's answer goes to the output file, and not to the file of errors."""
    return 200 <= outcome.status_code < 300


def result_of(item: Item, outcome: Outcome) -> bytes:
    """A line's result as it is kept: where it goes, and the line that it gives there."""
    response = _Response(outcome.status_code, outcome.request_id, msgspec.Raw(outcome.body))
    line = _Line(_line_id(item.batch_id, item.number), item.custom_id, response, None)
    return (_OUTPUT if is_completed(outcome) else _ERROR) + msgspec.json.encode(line) + b"\n"


def unfinished(batch: Batch, number: int, custom_id: str) -> bytes:
    """The line of the error file for a line that was not done when the batch ended."""
    error = _Error(*UNFINISHED[batch.gathering])
    return msgspec.json.encode(_Line(_line_id(batch.id, number), custom_id, None, error)) + b"\n"


def split(results: Mapping[int, bytes]) -> dict[str, bytes]:
    """Results as what to add to each of the two files: `o` and `e`."""
    return {
        kind.decode(): b"".join(result[1:] for _, result in sorted(results.items()) if result[:1] == kind)
        for kind in (_OUTPUT, _ERROR)
    }


async def one(piece: bytes) -> AsyncIterator[bytes]:
    """A blob of one piece."""
    yield piece


def _line_id(batch_id: str, number: int) -> str:
    return f"batch_req_{_digest(batch_id, number)}"


def _digest(batch_id: str, number: int) -> str:
    return hashlib.blake2b(f"{batch_id}:{number}".encode(), digest_size=16).hexdigest()
