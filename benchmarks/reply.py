"""Reading a reply for the least cost: what came when, and nothing of what it means."""

from __future__ import annotations

import re

import msgspec

_STAMP = re.compile(rb"\d+:(\d{9,}) ")
"""A token of the scripted model, `<number>:<monotonic ns when sent> `."""


class BenchmarkError(Exception):
    """The measurement cannot go on; the message says why."""


class Dialect(msgspec.Struct, frozen=True):
    """Patterns that tell lines apart, looked for from a line's beginning."""

    text: re.Pattern[bytes]
    end: re.Pattern[bytes]
    failure: re.Pattern[bytes]


CLI = Dialect(
    text=re.compile(rb'{"type":"stream_event".*"type":"text_delta"'),
    # Its keys come in any order; within a string of the model's the quotes would be escaped.
    end=re.compile(rb'.*"type":"result"'),
    failure=re.compile(rb'(?=.*"type":"result").*"is_error":true'),
)
SSE = Dialect(
    text=re.compile(rb'data: {.*"content":"[^"]'),
    end=re.compile(rb"data: \[DONE\]"),
    failure=re.compile(rb'HTTP/1.1 [^2]|data: {"error"'),
)


class Reply:
    """One reply as it comes. Times are `time.monotonic_ns()`, 0 for what has not happened."""

    def __init__(self) -> None:
        self.session_id = ""
        """The session it came from, where the gateway says so."""
        self.began_ns = 0
        self.first_ns = 0
        self.ended_ns = 0
        self.stamps: list[tuple[int, int]] = []
        """Of each stamped token: when it was sent, when it was received."""

    @property
    def first_ms(self) -> float:
        """From the request to the first text."""
        return (self.first_ns - self.began_ns) / 1e6

    @property
    def total_ms(self) -> float:
        """From the request to the end."""
        return (self.ended_ns - self.began_ns) / 1e6

    def require_whole(self) -> None:
        """Raise `BenchmarkError` unless it had text and an end."""
        if not self.first_ns or not self.ended_ns:
            raise BenchmarkError("A reply ended before its end.")


class Tap:
    """Fills a reply from the bytes that carry it."""

    def __init__(self, dialect: Dialect, reply: Reply) -> None:
        self._dialect = dialect
        self._reply = reply
        self._rest = b""
        self.failure: BenchmarkError | None = None

    def feed(self, data: bytes, now_ns: int) -> list[bytes]:
        """Take bytes received at `now_ns`; give the whole lines among them that are neither text nor end."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [line for line in lines if not self._take(line, now_ns)]

    def _take(self, line: bytes, now_ns: int) -> bool:
        reply, dialect = self._reply, self._dialect
        if dialect.text.match(line):
            reply.first_ns = reply.first_ns or now_ns
            reply.stamps.extend((int(sent), now_ns) for sent in _STAMP.findall(line))
            return True
        if dialect.failure.match(line):
            self.failure = BenchmarkError(f"A reply failed: {line[:300].decode(errors='replace')}")
        if dialect.end.match(line):
            reply.ended_ns = now_ns
            return True
        return False
