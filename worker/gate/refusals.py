"""What the proxy says in its own voice, in the words of the service it stands for."""

from __future__ import annotations

import msgspec

_REASONS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    413: "Content Too Large",
    502: "Bad Gateway",
}


class RefusedError(Exception):
    """A call that does not go through; `kind` is the service's name for such an error."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message

    def as_http(self, *, is_last: bool) -> bytes:
        """A whole HTTP/1.1 answer; with `is_last` the connection is closed behind it."""
        body = msgspec.json.encode({"type": "error", "error": {"type": self.kind, "message": self.message}})
        head = (
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            f"connection: {'close' if is_last else 'keep-alive'}\r\n\r\n"
        )
        return head.encode() + body
