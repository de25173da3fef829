"""What a script may say: calls made of steps, and how it is written into a prompt.

A script answers one turn. Each model call that the turn makes plays the next ``Call``; a call beyond the last
repeats the last one.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec

OPENING = "<<script "
CLOSING = ">>"

Pace = Annotated[float, msgspec.Meta(ge=0, le=60_000)]
"""Milliseconds from one token to the next; 0 sends as fast as the connection takes it."""


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A misspelt field is an error and not a default."""


class _Step(_Strict, frozen=True, tag_field="type"):
    """One thing that a call does, told apart in JSON by ``type``."""


class Text(_Step, frozen=True, tag="text"):
    """Visible text, one delta a token. It continues an open text block unless ``new_block``.

    ``tokens`` > 0 generates "t0 t1 …"; else ``text`` is split after each word. ``stamp`` sends
    "<i>:<time.monotonic_ns() when sent> " in place of each token. The block stays open until another block
    or the end of the message, so a failure or a cut that follows falls into the middle of it.
    With ``goes_on`` the tokens begin behind the last one that the assistant has said in this turn, so that an
    answer which was cut off has one right ending; when all have been said already, it says ".".
    """

    text: str = ""
    tokens: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    pace_ms: Pace = 0.0
    stamp: bool = False
    new_block: bool = False
    goes_on: bool = False


class Think(_Step, frozen=True, tag="think"):
    """A thinking block, split and paced as text is; its signature is sent when the block ends."""

    text: str
    pace_ms: Pace = 0.0
    signature: str = "c2NyaXB0ZWQtbW9kZWw="


class ToolUse(_Step, frozen=True, tag="tool_use"):
    """A whole ``tool_use`` block, its input sent as JSON in small pieces. Without ``id`` one is made up."""

    name: str
    input: dict[str, Any] = {}
    id: str | None = None
    pace_ms: Pace = 0.0


class Fail(_Step, frozen=True, tag="fail"):
    """An error: as HTTP ``status`` while nothing has been sent, else an ``error`` event that ends the stream.

    ``error`` is Anthropic's type and defaults to the one of the status. With ``times`` it happens that often
    for each ``key`` in the server's life and is passed over from then on; so after ``until`` (s).
    """

    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    error: str | None = None
    message: str = "The script asked for this failure."
    headers: dict[str, str] = {}
    times: Annotated[int, msgspec.Meta(ge=0)] | None = None
    key: str | None = None
    until: float | None = None

    def __post_init__(self) -> None:
        """Refuse to count without a name to count under."""
        if self.times is not None and self.key is None:
            raise ValueError("fail: `times` needs a `key`")


class Stall(_Step, frozen=True, tag="stall"):
    """Silence for so many seconds; before any text it holds back the response headers too."""

    seconds: Annotated[float, msgspec.Meta(ge=0, le=600)]


class Cut(_Step, frozen=True, tag="cut"):
    """The connection is closed with the response unfinished, or not begun."""


Step: TypeAlias = Text | Think | ToolUse | Fail | Stall | Cut


class Usage(_Strict, frozen=True):
    """Tokens to report. Unset, ``input`` is estimated from the request's size, ``output`` counts deltas."""

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_creation: int = 0


class Call(_Strict, frozen=True):
    """One model call: its steps, and why it stops (found from the steps unless given)."""

    steps: list[Step] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Usage = Usage()

    @property
    def reason(self) -> str:
        """The ``stop_reason`` to send."""
        if self.stop_reason is not None:
            return self.stop_reason
        if self.stop_sequence is not None:
            return "stop_sequence"
        return "tool_use" if any(isinstance(step, ToolUse) for step in self.steps) else "end_turn"


class Script(_Strict, frozen=True):
    """The answers to one turn, a call each; formatted into a string it is its directive."""

    calls: Annotated[list[Call], msgspec.Meta(min_length=1)]

    def call(self, index: int) -> Call:
        """Take the call at ``index``, the last one when there are no more."""
        return self.calls[min(index, len(self.calls) - 1)]

    def directive(self) -> str:
        """Write the text to put anywhere into a user message: ``<<script {json}>>``."""
        return f"{OPENING}{msgspec.json.encode(self).decode()}{CLOSING}"

    def __str__(self) -> str:
        return self.directive()
