"""Where a reader of a stream is, as the ids of its frames say: pure, no I/O."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from litestar.connection import ASGIConnection

from api.errors import ApiError

PATTERN = r"[0-9]{1,12}(\.[0-9]{1,6})?"
LAST_EVENT_ID = "last-event-id"
_END = b"\n\n"


class Cursor(msgspec.Struct, frozen=True):
    """Behind event number `n` of a run, all but the last `left` of its frames.

    Written `17`, or `17.2` when two frames of event 17 are to come. They are counted from the end, because
    what comes first may have been sent earlier, as a sign of life.
    """

    n: int = 0
    left: int = 0


BEGIN = Cursor()


def cursor_of(text: str, param: str) -> Cursor:
    """Read the id of a frame; raises `ApiError` 400."""
    if not re.fullmatch(PATTERN, text):
        said = f"Invalid '{param}': it must be the id of an event, such as 17 or 17.2."
        raise ApiError(400, said, param=param, code="invalid_value")
    number, _, left = text.partition(".")
    return Cursor(int(number), int(left or 0))


def last_event_id(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The id of the last event that a reader who comes back has seen, as the standard's header says."""
    return connection.headers.get(LAST_EVENT_ID, "").strip()


def numbered(frames: bytes, n: int, after: Cursor = BEGIN) -> bytes:
    """The frames of event `n` that are behind `after`, each with its id as the last line."""
    if not frames or n < after.n:
        return b""
    pieces = frames.split(_END)
    most = after.left if n == after.n else len(pieces)
    count = len(pieces) - 1
    told: list[bytes] = []
    for index in range(max(0, count - most), count):
        left = count - 1 - index
        place = b"%d.%d" % (n, left) if left else b"%d" % n
        told.append(pieces[index] + b"\nid: " + place + _END)
    return b"".join(told)
