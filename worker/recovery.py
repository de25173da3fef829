"""What a lost worker leaves of a turn: read back from the run's log, and told to another process.

The log holds what the client was shown, and between it, as steps, what the transcript gained with each use
of a tool. Both in order: the text after the last step is the beginning of an answer that was cut off.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from shared.content import TextPart
from shared.run_events import (
    CallStarted,
    FellBack,
    OutputEvent,
    Restarted,
    RunEvent,
    StepKept,
    TextDelta,
    ToolStarted,
)
from shared.runs import RunRequest
from worker.claude.transcript import Entry, Message, content_of, entries_of

_LEVEL = 1
_MOST_BYTES = 8 * 1024 * 1024
"""Of one step: what is more is not kept, and the turn cannot be gone on with."""
_LOST_RESULT = "The machine was lost while this ran. Whether it took effect is not known."
GO_ON = (
    "[Your answer was cut off by the loss of a machine. The user has read it as far as it stands above."
    " Go on exactly where it stops: repeat nothing, and do not mention this.]"
)


class StepTooLargeError(Exception):
    """A step is too large to be kept."""


class Lost(msgspec.Struct, frozen=True):
    """A turn as far as it had come: its text up to the last step, the steps, and what came after them."""

    before: str = ""
    entries: tuple[Entry, ...] = ()
    tail: str = ""
    tools: tuple[ToolStarted, ...] = ()
    """Tools that were begun after the last step."""
    has_output: bool = False
    has_calls: bool = False
    """Whether the client was told of calls to its own tools: nobody can end those for it."""
    fell_back: bool = False
    """Whether a fallback said it: no agent can go on in its words."""
    revision: str = ""
    """The commit of the agent that said it; empty for the directory as it was."""

    @property
    def text(self) -> str:
        """All text that was shown."""
        return self.before + self.tail

    @property
    def prompt(self) -> tuple[TextPart, ...]:
        """What to tell the model in place of the client's words, which it has heard already."""
        return (TextPart(GO_ON),)

    def messages(self, request: RunRequest) -> list[Message]:
        """What the process is told of the turn before it goes on."""
        said = self._steps(request)
        blocks: list[dict[str, Any]] = []
        if text := self.tail.strip():
            blocks.append({"type": "text", "text": text})
        blocks += [
            {"type": "tool_use", "id": tool.id, "name": tool.name, "input": _decoded(tool.input)}
            for tool in self.tools
        ]
        if blocks:
            said.append({"role": "assistant", "content": blocks})
        return said + _results(said[-1:])

    def transcript(self, request: RunRequest, head: str | None, answer: str) -> list[Entry]:
        """The turn as its conversation should remember it, after the entry `head`.

        What another worker added stands in it as words alone.
        """
        rest = answer[len(self.before) :].strip() or "."
        kept = list(self.entries)
        added = [] if kept else self._steps(request)
        added += _results([entry["message"] for entry in kept if "message" in entry])
        added.append({"role": "assistant", "content": [{"type": "text", "text": rest}]})
        return kept + entries_of(added, kept[-1]["uuid"] if kept else head)

    def _steps(self, request: RunRequest) -> list[Message]:
        said: list[Message] = [
            entry["message"] for entry in self.entries if entry.get("type") in {"user", "assistant"}
        ]
        if not said:
            return [{"role": "user", "content": content_of(request.prompt)}]
        return said + _results(said)


def step_at(commit: str) -> StepKept:
    """The note of which commit of the agent a turn is begun with."""
    return StepKept(zlib.compress(b"[]", _LEVEL), commit)


def lost_turn(events: Iterable[RunEvent]) -> Lost:
    """Fold a run's log."""
    fold = _Fold()
    for event in events:
        fold.add(event)
    return fold.lost()


class _Fold:
    def __init__(self) -> None:
        self._before: list[str] = []
        self._tail: list[str] = []
        self._entries: list[Entry] = []
        self._tools: list[ToolStarted] = []
        self._has_output = self._has_calls = self._fell_back = False
        self._revision = ""

    def add(self, event: RunEvent) -> None:
        self._has_output = self._has_output or isinstance(event, OutputEvent)
        match event:
            case TextDelta(text=piece):
                self._tail.append(piece)
            case ToolStarted():
                self._tools.append(event)
            case StepKept(revision=commit) if commit:
                self._revision = commit
            case StepKept(entries=kept):
                self._entries += msgspec.json.decode(zlib.decompress(kept))
                self._before += self._tail
                self._tail, self._tools = [], []
            case CallStarted():
                self._has_calls = True
            case FellBack():
                self._fell_back = True
            case Restarted():
                self.__init__()  # type: ignore[misc]

    def lost(self) -> Lost:
        return Lost(
            before="".join(self._before),
            entries=tuple(self._entries),
            tail="".join(self._tail),
            tools=tuple(self._tools),
            has_output=self._has_output,
            has_calls=self._has_calls,
            fell_back=self._fell_back,
            revision=self._revision,
        )


class Steps:
    """Gathers what a turn's transcript gains, and tells when a step is worth keeping.

    With `after`, what comes up to the user's message with these words is not the turn's own.
    """

    def __init__(self, after: str = "") -> None:
        self._after = after
        self._entries: list[Entry] = []

    def add(self, entries: Sequence[Entry]) -> StepKept | None:
        """Take entries in; gives a step when a tool is used or has answered. Raises `StepTooLargeError`."""
        for entry in entries:
            if not self._after:
                self._entries.append(entry)
            elif entry.get("type") == "user" and self._after in str(entry.get("message")):
                self._after = ""
        if not any(_uses_tools(entry) for entry in self._entries):
            return None
        data = zlib.compress(msgspec.json.encode(self._entries), _LEVEL)
        self._entries = []
        if len(data) > _MOST_BYTES:
            raise StepTooLargeError
        return StepKept(entries=data)


def _uses_tools(entry: Entry) -> bool:
    return any(block.get("type") in {"tool_use", "tool_result"} for block in _blocks(entry.get("message")))


def _results(messages: Sequence[Message]) -> list[Message]:
    """A message that answers the calls which have no result; nothing when there are none."""
    calls = [b["id"] for m in messages for b in _blocks(m) if b.get("type") == "tool_use"]
    answered = {b["tool_use_id"] for m in messages for b in _blocks(m) if b.get("type") == "tool_result"}
    lost = [
        {"type": "tool_result", "tool_use_id": call, "content": _LOST_RESULT, "is_error": True}
        for call in calls
        if call not in answered
    ]
    return [{"role": "user", "content": lost}] if lost else []


def _decoded(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except ValueError:
        return {}


def _blocks(message: object) -> list[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
