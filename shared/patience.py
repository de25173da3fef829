"""How long a client may take to say what it wants, and how many are heard at a time of one address.

uvicorn itself waits for ever, and for everybody.

A head has `receive_timeout_s` to come, and so has a body, with a second more for each KiB that has come.
While the server itself does not read, the client's time stands still.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.crowds import Crowds

_BYTES_PER_S = 1024
_MOST_HEAD = 64 * 1024
_TURNED_AWAY_S = 2.0


def patient_for(receive_timeout_s: float, among: Crowds | None = None) -> type[HttpToolsProtocol]:
    """The protocol for uvicorn: it hangs up on slow heads and bodies, and refuses a long head.

    `among` counts the connections of all addresses; those that are too many are turned away.
    """

    class Patient(_Patient):
        timeout_s = receive_timeout_s
        crowds = among or Crowds(None)

    return Patient


class _Patient(HttpToolsProtocol):
    timeout_s: float
    crowds: Crowds

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._wait: asyncio.TimerHandle | None = None
        self._left_s = 0.0
        self._head_bytes = 0
        self._is_in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._crowd = self.crowds.enter(self.client[0] if self.client else "")
        if self.crowds.is_beyond(self._crowd):
            self._turn_away()
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self.crowds.leave(self._crowd)
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        has_answered: bool = getattr(
            self.cycle, "response_complete", False
        )  # no cycle before a first request
        if self._wait is None and has_answered:
            self._expect()  # what came begins no request: uvicorn has stopped its own clock for it
        if self._is_in_head and self._head_bytes > _MOST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._wait is None:  # the first one's time began with its connection
            self._expect()

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._expect()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._left_s += len(body) / _BYTES_PER_S
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._forget()
        self._is_in_head, self._head_bytes = True, 0  # of the next request
        super().on_message_complete()

    def _turn_away(self) -> None:
        """Say why, if it asks soon; and not even that when too many are to be told."""
        self.app = cast("Any", self.crowds.refusing)
        self.timeout_s = min(self.timeout_s, _TURNED_AWAY_S)
        if self.crowds.is_beyond(self._crowd, times=2):
            self.transport.abort()

    def _expect(self) -> None:
        self._forget()
        self._wait = self.loop.call_later(self.timeout_s, self._look)

    def _look(self) -> None:
        """Wait on as long as what has come allows; else hang up."""
        if self.flow.read_paused:
            self._expect()
        elif self._left_s > 0:
            self._wait = self.loop.call_later(min(self._left_s, self.timeout_s), self._look)
            self._left_s = max(0.0, self._left_s - self.timeout_s)
        elif not self.transport.is_closing():
            self.transport.close()

    def _forget(self) -> None:
        self._left_s = 0.0
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
