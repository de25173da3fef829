"""The events of a response's stream. `sequence_number` counts them from 0."""

from __future__ import annotations

from typing import Any

import msgspec

from api.openai.responses.objects import Content, OutputItem, Response, SummaryText


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """An event in its place."""

    sequence_number: int


class Created(Event, frozen=True, kw_only=True, tag="response.created"):
    """The first event."""

    response: Response


class Queued(Event, frozen=True, kw_only=True, tag="response.queued"):
    """A background response waits for a worker."""

    response: Response


class InProgress(Event, frozen=True, kw_only=True, tag="response.in_progress"):
    """A worker has begun."""

    response: Response


class Completed(Event, frozen=True, kw_only=True, tag="response.completed"):
    """The response is whole."""

    response: Response


class Incomplete(Event, frozen=True, kw_only=True, tag="response.incomplete"):
    """The response ended before it was whole."""

    response: Response


class Failed(Event, frozen=True, kw_only=True, tag="response.failed"):
    """The response failed, or was cancelled: its `status` says which."""

    response: Response


class ItemAdded(Event, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins."""

    output_index: int
    item: OutputItem


class ItemDone(Event, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item has ended."""

    output_index: int
    item: OutputItem


class InItem(Event, frozen=True, kw_only=True):
    """Something of an item."""

    item_id: str
    output_index: int


class PartAdded(InItem, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A part of a message begins."""

    content_index: int = 0
    part: Content


class PartDone(InItem, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A part of a message has ended."""

    content_index: int = 0
    part: Content


class TextDelta(InItem, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """A piece of the answer."""

    content_index: int = 0
    delta: str
    logprobs: list[dict[str, Any]] = []


class TextDone(InItem, frozen=True, kw_only=True, tag="response.output_text.done"):
    """A text of the answer, whole."""

    content_index: int = 0
    text: str
    logprobs: list[dict[str, Any]] = []


class RefusalDelta(InItem, frozen=True, kw_only=True, tag="response.refusal.delta"):
    """A piece of a refusal."""

    content_index: int = 0
    delta: str


class RefusalDone(InItem, frozen=True, kw_only=True, tag="response.refusal.done"):
    """A refusal, whole."""

    content_index: int = 0
    refusal: str


class ArgumentsDelta(InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"):
    """A piece of a function's arguments."""

    delta: str


class ArgumentsDone(InItem, frozen=True, kw_only=True, tag="response.function_call_arguments.done"):
    """A function's arguments, whole."""

    name: str
    arguments: str


class InputDelta(InItem, frozen=True, kw_only=True, tag="response.custom_tool_call_input.delta"):
    """The text that a custom tool is called with."""

    delta: str


class InputDone(InItem, frozen=True, kw_only=True, tag="response.custom_tool_call_input.done"):
    """The same, whole."""

    input: str


class SummaryPartAdded(InItem, frozen=True, kw_only=True, tag="response.reasoning_summary_part.added"):
    """A text of the model's thinking begins."""

    summary_index: int = 0
    part: SummaryText


class SummaryPartDone(InItem, frozen=True, kw_only=True, tag="response.reasoning_summary_part.done"):
    """A text of the model's thinking has ended."""

    summary_index: int = 0
    part: SummaryText


class SummaryDelta(InItem, frozen=True, kw_only=True, tag="response.reasoning_summary_text.delta"):
    """A piece of the model's thinking."""

    summary_index: int = 0
    delta: str


class SummaryDone(InItem, frozen=True, kw_only=True, tag="response.reasoning_summary_text.done"):
    """A text of the model's thinking, whole."""

    summary_index: int = 0
    text: str


StreamEvent = (
    Created
    | Queued
    | InProgress
    | Completed
    | Incomplete
    | Failed
    | ItemAdded
    | ItemDone
    | PartAdded
    | PartDone
    | TextDelta
    | TextDone
    | RefusalDelta
    | RefusalDone
    | ArgumentsDelta
    | ArgumentsDone
    | InputDelta
    | InputDone
    | SummaryPartAdded
    | SummaryPartDone
    | SummaryDelta
    | SummaryDone
)
