"""Counting a model's tokens in what passes by, without holding it up."""

from __future__ import annotations

import msgspec

from worker.gate.passes import Pass

_MOST_KEPT = 1024 * 1024
_EVENTS = (b'data: {"type":"message_start"', b'data: {"type":"message_delta"', b'data: {"type": "message_')


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    @property
    def read(self) -> int:
        parts = (self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens)
        return sum(part or 0 for part in parts)


class _Message(msgspec.Struct, frozen=True):
    usage: _Usage = _Usage()


class _Event(msgspec.Struct, frozen=True):
    message: _Message = _Message()
    usage: _Usage = _Usage()


class Meter:
    """Reads one answer as it passes; `close` puts what it counted on the pass."""

    def __init__(self, counted: Pass, *, is_stream: bool) -> None:
        self._counted = counted
        self._is_stream = is_stream
        self._rest = b""
        self._read = self._written = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        if len(self._rest) > _MOST_KEPT:
            self._rest = b""
        self._rest += chunk
        if self._is_stream and b"\n" in chunk:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                if line.startswith(_EVENTS):
                    self._hear(line[6:])

    def close(self) -> None:
        """The answer is over, whole or not."""
        if not self._is_stream:
            self._hear(self._rest)
        self._counted.calls += 1
        self._counted.input_tokens += self._read
        self._counted.output_tokens += self._written

    def _hear(self, data: bytes) -> None:
        try:
            event = _decode.decode(data)
        except (msgspec.MsgspecError, RecursionError):
            return
        for usage in (event.message.usage, event.usage):  # an answer's counts are sums so far, not steps
            self._read = max(self._read, usage.read)
            self._written = max(self._written, usage.output_tokens or 0)


_decode = msgspec.json.Decoder(_Event)
