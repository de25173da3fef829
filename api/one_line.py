"""JSON as one line of an event stream, whatever a reader takes for the end of a line."""

from __future__ import annotations

import msgspec

_LINE_ENDS = (
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
    (b"\xc2\x85", b"\\u0085"),
)
"""Python's `str.splitlines`, which some readers of event streams use, ends lines at these."""


def json_text(text: str) -> bytes:
    """Text as JSON in one line, whatever a reader takes for the end of one."""
    encoded = msgspec.json.encode(text)
    return encoded if text.isascii() else one_line(encoded)


def one_line(encoded: bytes) -> bytes:
    """JSON with every character escaped that some reader takes for the end of a line."""
    for raw, escaped in _LINE_ENDS:
        encoded = encoded.replace(raw, escaped)
    return encoded
