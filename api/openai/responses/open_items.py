"""Output items that are being told: how each begins, goes on and ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from api.openai.responses import events
from api.openai.responses.events import Event
from api.openai.responses.objects import (
    Content,
    CustomCallOutput,
    FunctionCallOutput,
    ItemStatus,
    MessageOutput,
    OutputItem,
    ReasoningOutput,
    RefusalContent,
    SummaryText,
    TextContent,
)
from api.openai.tools import custom_input


class Say(Protocol):
    """Makes an event, with the next number."""

    def __call__(self, kind: Callable[..., Event], /, **fields: Any) -> Event:
        """Make one of this kind."""
        ...


class OpenItem(ABC):
    """An item that has begun and not ended. Its methods give the events to tell."""

    def __init__(self, say: Say, item_id: str, index: int) -> None:
        self._say = say
        self._id = item_id
        self._index = index
        self._place: dict[str, Any] = {"item_id": item_id, "output_index": index}
        self._pieces: list[str] = []

    def open(self) -> list[Event]:
        """Begin."""
        item = self._item("", "in_progress")
        return [self._say(events.ItemAdded, output_index=self._index, item=item), *self._opened()]

    def piece(self, text: str) -> list[Event]:
        """Go on."""
        if not text:
            return []
        self._pieces.append(text)
        return self._said(text)

    def close(self, status: ItemStatus) -> list[Event]:
        """End."""
        told = self._closed(self._text)
        return [*told, self._say(events.ItemDone, output_index=self._index, item=self.item(status))]

    def item(self, status: ItemStatus) -> OutputItem:
        """The item as far as it is told."""
        return self._item(self._text, status)

    @property
    def _text(self) -> str:
        return "".join(self._pieces)

    @abstractmethod
    def _item(self, text: str, status: ItemStatus) -> OutputItem: ...

    def _opened(self) -> list[Event]:
        return []

    @abstractmethod
    def _said(self, text: str) -> list[Event]: ...

    @abstractmethod
    def _closed(self, text: str) -> list[Event]: ...


class OpenMessage(OpenItem):
    """A message of one text."""

    def _item(self, text: str, status: ItemStatus) -> OutputItem:
        return MessageOutput(self._id, status, [] if status == "in_progress" else [self._part(text)])

    def _part(self, text: str) -> Content:
        return TextContent(text)

    def _opened(self) -> list[Event]:
        return [self._say(events.PartAdded, **self._place, part=self._part(""))]

    def _said(self, text: str) -> list[Event]:
        return [self._say(events.TextDelta, **self._place, delta=text)]

    def _done(self, text: str) -> Event:
        return self._say(events.TextDone, **self._place, text=text)

    def _closed(self, text: str) -> list[Event]:
        return [self._done(text), self._say(events.PartDone, **self._place, part=self._part(text))]


class OpenRefusal(OpenMessage):
    """A message of one refusal."""

    def _part(self, text: str) -> Content:
        return RefusalContent(text)

    def _said(self, text: str) -> list[Event]:
        return [self._say(events.RefusalDelta, **self._place, delta=text)]

    def _done(self, text: str) -> Event:
        return self._say(events.RefusalDone, **self._place, refusal=text)


class OpenReasoning(OpenItem):
    """A stretch of the model's thinking, as one summary."""

    def _item(self, text: str, status: ItemStatus) -> OutputItem:
        return ReasoningOutput(self._id, status, [] if status == "in_progress" else [SummaryText(text)])

    def _opened(self) -> list[Event]:
        return [self._say(events.SummaryPartAdded, **self._place, part=SummaryText(""))]

    def _said(self, text: str) -> list[Event]:
        return [self._say(events.SummaryDelta, **self._place, delta=text)]

    def _closed(self, text: str) -> list[Event]:
        return [
            self._say(events.SummaryDone, **self._place, text=text),
            self._say(events.SummaryPartDone, **self._place, part=SummaryText(text)),
        ]


class CallName(msgspec.Struct, frozen=True):
    """What the client calls a tool; the model knows it by one flat name."""

    name: str
    namespace: str | None = None
    is_custom: bool = False


class OpenCall(OpenItem):
    """A call of a function of the client's."""

    def __init__(self, say: Say, item_id: str, index: int, call_id: str, name: CallName) -> None:
        super().__init__(say, item_id, index)
        self._call_id = call_id
        self._name = name

    def _item(self, text: str, status: ItemStatus) -> OutputItem:
        name = self._name
        return FunctionCallOutput(self._id, status, self._call_id, name.name, text, name.namespace)

    def _said(self, text: str) -> list[Event]:
        return [self._say(events.ArgumentsDelta, **self._place, delta=text)]

    def _closed(self, text: str) -> list[Event]:
        return [self._say(events.ArgumentsDone, **self._place, name=self._name.name, arguments=text)]


class OpenCustomCall(OpenCall):
    """A call of a custom tool: its text is told when it is whole, because it comes within JSON."""

    def _item(self, text: str, status: ItemStatus) -> OutputItem:
        name = self._name
        return CustomCallOutput(self._id, status, self._call_id, name.name, _input(text), name.namespace)

    def _said(self, _: str) -> list[Event]:
        return []

    def _closed(self, text: str) -> list[Event]:
        told = _input(text)
        deltas = [self._say(events.InputDelta, **self._place, delta=told)] if told else []
        return [*deltas, self._say(events.InputDone, **self._place, input=told)]


def _input(arguments: str) -> str:
    """The text within a custom tool's arguments; none when the model's limit cut them off."""
    try:
        return custom_input(msgspec.json.decode(arguments or "{}", type=dict[str, Any]))
    except msgspec.MsgspecError:
        return ""
