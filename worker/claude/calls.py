"""The calls of client tools in one turn: what the client is told of them, and what the CLI is told to do.

The CLI asks before it runs a tool, maybe while the model still speaks. It hears the answer when the message
is whole: the calls are the client's to make, or (arguments that a strict schema does not allow) the model's
to mend.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from shared.content import ToolUsePart
from shared.json_schema import mismatch
from shared.run_events import CallDelta, CallStarted, RunEvent
from shared.runs import ClientTool, ToolChoice
from worker.claude.client_tools import ClientTools

_MOST_MENDS = 2
_NOT_NOW = "This tool cannot be called now."
_NO_MORE = "Not made: this answer has had all the tool calls it may have. Go on without tools."
_NOT_ITS_TURN = "Not made, because another call beside it had arguments that its schema does not allow."


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of one tool call; `reason` is for the model."""

    decision: Literal["defer", "deny", "own"]
    reason: str = ""

    @property
    def answer(self) -> dict[str, Any]:
        """The hook's answer (CLI 2.1); the agent's own tools are its own affair."""
        if self.decision == "own":
            return {}
        output = {"hookEventName": "PreToolUse", "permissionDecision": self.decision}
        if self.reason:
            output["permissionDecisionReason"] = self.reason
        return {"hookSpecificOutput": output}


class _Call(msgspec.Struct):
    id: str
    tool: ClientTool
    pieces: list[str]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces) or "{}"


class Calls:
    """Gathers the calls of a turn, message by message. A pure state machine.

    `own` is how many calls of the agent's own tools the turn may make; `None` for any number.
    """

    def __init__(
        self, tools: ClientTools | None = None, choice: ToolChoice | None = None, own: int | None = None
    ) -> None:
        self._tools = tools or ClientTools()
        self._own_left = own
        self._may_call = choice is None or choice.mode != "none"
        self._holds_back = any(tool.strict for tool in self._tools.tools)
        self._message: list[_Call] = []
        self._told: list[_Call] = []
        self._is_open = False
        self._verdicts: dict[str, Verdict] = {}
        self._mends = 0
        self._has_message = False

    @property
    def has_given_up(self) -> bool:
        """Whether the model has failed to mend its arguments too often."""
        return self._mends > _MOST_MENDS

    @property
    def was_denied(self) -> bool:
        """Whether the arguments of some call did not fit."""
        return self._mends > 0

    @property
    def made(self) -> tuple[ToolUsePart, ...]:
        """The calls that the client was told of, under its own names."""
        return tuple(
            ToolUsePart(id=call.id, name=call.tool.name, input=_decoded(call.arguments))
            for call in self._told
        )

    def start_message(self) -> None:
        """The model begins to speak."""
        self._message, self._is_open, self._has_message = [], False, True

    def start(self, call_id: str, shown: str) -> list[RunEvent] | None:
        """A tool call begins; `None` when it is not one of the client's tools."""
        tool = self._tools.find(shown)
        self._is_open = tool is not None and self._may_call
        if tool is None or not self._may_call:
            return None
        call = _Call(call_id, tool, [])
        self._message.append(call)
        return [] if self._holds_back else [self._tell(call)]

    def delta(self, piece: str) -> list[RunEvent] | None:
        """Arguments come; `None` when they are not of a call of the client's tools."""
        if not self._is_open:
            return None
        self._message[-1].pieces.append(piece)
        if self._holds_back or not piece:
            return []
        return [CallDelta(index=len(self._told) - 1, arguments=piece)]

    def stop(self) -> list[RunEvent] | None:
        """A tool call is whole; `None` when it is not one of the client's tools."""
        if not self._is_open:
            return None
        self._is_open = False
        call = self._message[-1]
        if call.arguments != "".join(call.pieces):  # said without any
            call.pieces = [call.arguments]
            if not self._holds_back:
                return [CallDelta(index=len(self._told) - 1, arguments=call.arguments)]
        return []

    def end_message(self) -> list[RunEvent]:
        """The model's message is whole: judge its calls, and tell what was held back."""
        self._has_message = False
        faults = {call.id: fault for call in self._message if (fault := _fault(call))}
        for call in self._message:
            reason = faults.get(call.id, _NOT_ITS_TURN) if faults else ""
            self._verdicts[call.id] = Verdict("deny", reason) if faults else Verdict("defer")
        if faults:
            self._mends += 1
            return []
        if not self._holds_back:
            return []
        events: list[RunEvent] = []
        for call in self._message:
            events.append(self._tell(call))
            events += [CallDelta(len(self._told) - 1, piece) for piece in call.pieces if piece]
        return events

    def verdict(self, call_id: str, shown: str, *, is_clients: bool) -> Verdict | None:
        """What to do with a call that the CLI asks about; `None` until the message is whole.

        `is_clients` says that the tool is one of the client's. A sub-agent's call is in no message of ours.
        """
        if not is_clients:
            return self._verdict_of_own()
        if self._tools.find(shown) is None or not self._may_call:
            return Verdict("deny", _NOT_NOW)
        if call_id in self._verdicts:
            return self._verdicts[call_id]
        return None if self._has_message else Verdict("deny", _NOT_NOW)

    def _verdict_of_own(self) -> Verdict:
        if self._own_left is None:
            return Verdict("own")
        if self._own_left == 0:
            return Verdict("deny", _NO_MORE)
        self._own_left -= 1
        return Verdict("own")

    def _tell(self, call: _Call) -> CallStarted:
        self._told.append(call)
        return CallStarted(index=len(self._told) - 1, id=call.id, name=call.tool.name)


def _fault(call: _Call) -> str:
    """What is wrong with the arguments of a strict tool's call, in words for the model."""
    if not call.tool.strict:
        return ""
    return mismatch(_decoded(call.arguments), call.tool.parameters)


def _decoded(arguments: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (ValueError, RecursionError):  # cut off at the model's limit
        return {}
