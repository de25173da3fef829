"""Short constructors, so that a prompt in a test reads as what it asks for."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from uuid import uuid4

from scripted_model.language import Call, Cut, Fail, Script, Stall, Step, Text, Think, ToolUse, Usage


def script(*parts: Step | Call) -> Script:
    """Make a script of calls; bare steps that stand side by side make up one call."""
    calls: list[Call] = []
    for are_calls, group in groupby(parts, key=lambda part: isinstance(part, Call)):
        members = list(group)
        if are_calls:
            calls.extend(part for part in members if isinstance(part, Call))
        else:
            calls.append(Call(steps=[part for part in members if not isinstance(part, Call)]))
    return Script(calls=calls or [Call()])


def call(
    *steps: Step,
    stop_reason: str | None = None,
    stop_sequence: str | None = None,
    usage: Usage | None = None,
) -> Call:
    """One model call of the turn."""
    return Call(
        steps=list(steps),
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        usage=usage or Usage(),
    )


def say(words: str, *, pace_ms: float = 0.0) -> Script:
    """Make a whole script that says ``words`` and ends."""
    return script(text(words, pace_ms=pace_ms))


def text(words: str, *, pace_ms: float = 0.0, new_block: bool = False) -> Text:
    """Say ``words``, one word a delta."""
    return Text(text=words, pace_ms=pace_ms, new_block=new_block)


def tokens(n: int, *, pace_ms: float = 0.0, stamp: bool = False, goes_on: bool = False) -> Text:
    """Say "t0 t1 …", ``n`` deltas; with ``stamp`` each is "<i>:<monotonic ns> " at its sending.

    With ``goes_on`` only those behind the last that the assistant has said in this turn.
    """
    return Text(tokens=n, pace_ms=pace_ms, stamp=stamp, goes_on=goes_on)


def think(words: str, *, pace_ms: float = 0.0) -> Think:
    """Think ``words``."""
    return Think(text=words, pace_ms=pace_ms)


def use_tool(
    name: str,
    arguments: dict[str, Any] | None = None,
    *,
    id: str | None = None,  # noqa: A002 - the wire's own word
    pace_ms: float = 0.0,
) -> ToolUse:
    """Call a tool."""
    return ToolUse(name=name, input=arguments or {}, id=id, pace_ms=pace_ms)


def fail(
    status: int,
    *,
    error: str | None = None,
    message: str = "The script asked for this failure.",
    headers: dict[str, str] | None = None,
    times: int | None = None,
    key: str | None = None,
    until: float | None = None,
) -> Fail:
    """Fail with ``status``, always, the first ``times`` or ``until`` a time; a key is made up if needed."""
    if times is not None and key is None:
        key = uuid4().hex
    headers = headers or {}
    return Fail(
        status=status, error=error, message=message, headers=headers, times=times, key=key, until=until
    )


def stall(seconds: float) -> Stall:
    """Send nothing for ``seconds``."""
    return Stall(seconds=seconds)


def cut() -> Cut:
    """Close the connection in mid-response."""
    return Cut()
