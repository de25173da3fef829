"""Performs a call: its steps become stream events, in time."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any

import msgspec

from scripted_model import wire
from scripted_model.language import Call, Cut, Fail, Stall, Step, Text, Think, ToolUse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

JSON_PIECE = 16
"""Characters of a tool's input in one delta."""

_WORD = re.compile(r"\S+\s*|\s+")


class ScriptedFailureError(Exception):
    """The script wants an error here."""

    def __init__(self, step: Fail) -> None:
        super().__init__(step.message)
        self.step = step


class ScriptedCutError(Exception):
    """The script wants the connection closed here."""


class FailureCounts:
    """How often each counted failure has happened."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def is_due(self, step: Fail) -> bool:
        """Whether ``step`` fails this time; counts it when it does."""
        if step.until is not None and time.time() >= step.until:
            return False
        if step.times is None or step.key is None:
            return True
        seen = self._seen.get(step.key, 0)
        if seen >= step.times:
            return False
        self._seen[step.key] = seen + 1
        return True


class Player:
    """Plays one call into ``emit``, which sends or collects the events.

    The message opens with the first block, so that a failure, a stall or a cut before it meets a response
    that has not begun.
    """

    def __init__(
        self,
        emit: Callable[[wire.Event], Awaitable[None]],
        failures: FailureCounts,
        *,
        model: str,
        estimated_input: int,
    ) -> None:
        self._emit = emit
        self._failures = failures
        self._model = model
        self._estimated_input = estimated_input
        self._has_started = False
        self._index = -1
        self._open: Text | Think | ToolUse | None = None
        self._output = 0

    async def play(self, call: Call) -> None:
        """Perform every step, then end the message.

        Raises ScriptedFailureError or ScriptedCutError where the script says so, after what came before.
        """
        for step in call.steps:
            await self._perform(call, step)
        await self._start(call)
        await self._end_block()
        await self._emit(wire.message_delta(call.reason, call.stop_sequence, self._usage(call, self._output)))
        await self._emit(wire.message_stop())

    async def _perform(self, call: Call, step: Step) -> None:
        match step:
            case Text():
                await self._text(call, step)
            case Think():
                await self._begin_block(call, step, {"type": "thinking", "thinking": "", "signature": ""})
                await self._deltas("thinking_delta", _WORD.findall(step.text), step.pace_ms)
            case ToolUse():
                await self._tool_use(call, step)
            case Stall():
                await asyncio.sleep(step.seconds)
            case Fail():
                if self._failures.is_due(step):
                    raise ScriptedFailureError(step)
            case Cut():
                raise ScriptedCutError

    async def _text(self, call: Call, step: Text) -> None:
        if step.new_block or not isinstance(self._open, Text):
            await self._begin_block(call, step, {"type": "text", "text": ""})
        pieces: Iterable[str] = _numbered(step.tokens) if step.tokens else _WORD.findall(step.text)
        await self._deltas("text_delta", pieces, step.pace_ms, stamp=step.stamp)

    async def _tool_use(self, call: Call, step: ToolUse) -> None:
        tool_id = step.id or wire.new_id("toolu")
        await self._begin_block(
            call, step, {"type": "tool_use", "id": tool_id, "name": step.name, "input": {}}
        )
        arguments = msgspec.json.encode(step.input).decode()
        pieces = [arguments[at : at + JSON_PIECE] for at in range(0, len(arguments), JSON_PIECE)]
        await self._deltas("input_json_delta", pieces, step.pace_ms)
        # Clients start a tool when its block ends, not when the message does: leave nothing open.
        await self._end_block()

    async def _deltas(self, kind: str, pieces: Iterable[str], pace_ms: float, *, stamp: bool = False) -> None:
        began = time.monotonic()
        for i, piece in enumerate(pieces):
            if pace_ms:
                # Each token has its own due time: sleeping for the pace itself would add up every delay.
                early = began + i * pace_ms / 1000 - time.monotonic()
                if early > 0:
                    await asyncio.sleep(early)
            words = f"{i}:{time.monotonic_ns()} " if stamp else piece
            self._output += 1
            await self._emit(wire.block_delta(self._index, kind, words))

    async def _start(self, call: Call) -> None:
        if not self._has_started:
            self._has_started = True
            await self._emit(wire.message_start(self._model, self._usage(call, 1)))

    async def _begin_block(self, call: Call, step: Text | Think | ToolUse, block: dict[str, Any]) -> None:
        await self._start(call)
        await self._end_block()
        self._index += 1
        self._open = step
        await self._emit(wire.block_start(self._index, block))

    async def _end_block(self) -> None:
        if self._open is None:
            return
        if isinstance(self._open, Think):
            await self._emit(wire.block_delta(self._index, "signature_delta", self._open.signature))
        self._open = None
        await self._emit(wire.block_stop(self._index))

    def _usage(self, call: Call, output: int) -> dict[str, int]:
        return wire.usage(call.usage, estimated_input=self._estimated_input, output=output)


def _numbered(n: int) -> Iterable[str]:
    return (f" t{i}" if i else "t0" for i in range(n))
