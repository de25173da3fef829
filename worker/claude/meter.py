"""Tokens of a turn, as the CLI's lines count them."""

from __future__ import annotations

import msgspec

from shared.run_events import Usage
from worker.claude.lines import TokenCount


class Meter:
    """Tokens counted from the stream, for turns that end before the CLI sums them up."""

    def __init__(self) -> None:
        self._done = Usage()
        self._started: TokenCount | None = None
        self._output = 0

    def start(self, count: TokenCount | None) -> None:
        """A model call begins; `count` is what it has read."""
        self._close()
        self._started = count or TokenCount()

    def end(self, count: TokenCount | None) -> None:
        """A model call ends; `count` is what it has said."""
        if count is not None and count.output_tokens is not None:
            self._output = count.output_tokens

    def usage(self, cost_usd: float | None) -> Usage:
        """All calls together, with the cost given."""
        return msgspec.structs.replace(self._sum(), cost_usd=cost_usd)

    def _close(self) -> None:
        self._done = self._sum()
        self._started, self._output = None, 0

    def _sum(self) -> Usage:
        if self._started is None:
            return self._done
        add = usage_of(self._started, None)
        return Usage(
            input_tokens=self._done.input_tokens + add.input_tokens,
            cache_read_tokens=self._done.cache_read_tokens + add.cache_read_tokens,
            cache_write_tokens=self._done.cache_write_tokens + add.cache_write_tokens,
            output_tokens=self._done.output_tokens + (self._output or add.output_tokens),
        )


def usage_of(count: TokenCount, cost_usd: float | None) -> Usage:
    """The Messages API's count in our terms."""
    return Usage(
        input_tokens=count.input_tokens or 0,
        cache_read_tokens=count.cache_read_input_tokens or 0,
        cache_write_tokens=count.cache_creation_input_tokens or 0,
        output_tokens=count.output_tokens or 0,
        cost_usd=cost_usd,
    )
