"""What the server received, and how each request ended."""

from __future__ import annotations

import re
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

if TYPE_CHECKING:
    from uvicorn._types import HTTPScope

Ending: TypeAlias = Literal["completed", "cut", "disconnected"]
"""The reply was sent whole, the script cut it, or the client (or the server's end) closed the connection."""

MAX_REQUESTS = 1000
MAX_BYTES = 64 * 2**20
"""Of bodies, all together: one request of the real CLI has about 100 KB."""


class Received(msgspec.Struct):
    """One request. Times are ``time.monotonic_ns()``; ``ended`` is None while the reply is under way."""

    n: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    received_at_ns: int
    ended: Ending | None = None
    ended_at_ns: int | None = None

    def end(self, how: Ending) -> None:
        """Note how the request ended; the first word counts."""
        if self.ended is None:
            self.ended = how
            self.ended_at_ns = time.monotonic_ns()

    def contains(self, marker: str) -> bool:
        """Whether the body holds ``marker``, as it stands or as a JSON string holds it."""
        return marker.encode() in self.body or msgspec.json.encode(marker)[1:-1] in self.body

    def view(self, *, find: str = "") -> dict[str, Any]:
        """Itself with the body as JSON, or as a string when it is none; None when there was no body.

        With `find`, a regular expression, only what that finds first in the body stands in its place.
        """
        fields = msgspec.structs.asdict(self)
        if find:
            found = re.search(find.encode(), self.body)
            return {**fields, "headers": {}, "body": found[0].decode() if found else None}
        try:
            fields["body"] = msgspec.json.decode(self.body) if self.body else None
        except (ValueError, msgspec.DecodeError):
            fields["body"] = self.body.decode(errors="replace")
        return fields


class RequestLog:
    """The newest requests, bounded in number and in bytes."""

    def __init__(self, *, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests: deque[Received] = deque()
        self._bytes = 0
        self._last_n = 0

    def add(self, scope: HTTPScope, body: bytes) -> Received:
        """Note a request; its number counts from 1 and is never reused."""
        self._last_n += 1
        received = Received(
            n=self._last_n,
            method=scope["method"],
            path=scope["path"],
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            body=body,
            received_at_ns=time.monotonic_ns(),
        )
        self._requests.append(received)
        self._bytes += len(body)
        while len(self._requests) > self._max_requests or self._bytes > self._max_bytes:
            self._bytes -= len(self._requests.popleft().body)
        return received

    def matching(self, marker: str = "") -> list[Received]:
        """List the requests whose body contains ``marker``, oldest first."""
        return [received for received in self._requests if received.contains(marker)]

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()
        self._bytes = 0
