"""Run events into the older Completions API's: chunks as they come, or one answer. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET

from api.errors import ApiError
from api.one_line import json_text, one_line
from api.openai.answer import Subject, finish_of, info_of, usage_of
from api.openai.chunks import DONE, KEEP_ALIVE, error_frame
from api.openai.text_wire import TextChoice, TextCompletion
from shared.run_events import Restarted, RunCompleted, RunEvent, TextDelta


class TextStream:
    """Encodes the stream of several runs; `openings` are the texts that each choice begins with."""

    def __init__(self, subject: Subject, openings: Sequence[str], *, include_usage: bool) -> None:
        self._subject = subject
        self._include_usage = include_usage
        self._openings = openings
        samples = [self._chunk("\x00", index).split(b'"\\u0000"') for index in range(len(openings))]
        self._parts = [(before, after) for before, after in samples]

    def opening(self) -> bytes:
        """The prompts, where they are to be repeated."""
        return b"".join(self._chunk(text, index) for index, text in enumerate(self._openings) if text)

    def encode(self, index: int, event: RunEvent) -> bytes:
        """Frames for one event; nothing for what is not text."""
        match event:
            case TextDelta(text=text):
                before, after = self._parts[index]
                return before + json_text(text) + after
            case RunCompleted():
                return self._chunk("", index, finish_of(self._subject, event))
        return b""

    def ending(self, completed: list[RunCompleted]) -> bytes:
        """The usage of all with Backline's own words, if asked for, and the mark."""
        if not self._include_usage:
            return DONE
        usage = usage_of(event.usage for event in completed)
        info = info_of(self._subject, completed[0])
        return _frame(completion(self._subject, [], usage=usage, backline=info)) + DONE

    def pause(self) -> bytes:
        """A comment."""
        return KEEP_ALIVE

    def error(self, error: ApiError) -> bytes:
        """A frame with the error."""
        return error_frame(error)

    def _chunk(self, text: str, index: int, finish_reason: str | None = None) -> bytes:
        usage = None if self._include_usage else UNSET
        return _frame(completion(self._subject, [TextChoice(text, index, finish_reason)], usage=usage))


class TextFold:
    """Folds the events of several runs; `openings` are the texts that each choice begins with."""

    def __init__(self, subject: Subject, openings: Sequence[str]) -> None:
        self._subject = subject
        self._openings = openings
        self._texts = [[text] for text in openings]
        self._ends: dict[int, RunCompleted] = {}

    def add(self, index: int, event: RunEvent) -> None:
        """Take in one event of run number `index`."""
        match event:
            case Restarted():
                self._texts[index] = [self._openings[index]]
            case TextDelta(text=text):
                self._texts[index].append(text)
            case RunCompleted():
                self._ends[index] = event

    def completion(self) -> TextCompletion:
        """The whole answer, once every run has completed."""
        ends = [self._ends[index] for index in range(len(self._texts))]
        choices = [
            TextChoice("".join(texts), index, finish_of(self._subject, ends[index]))
            for index, texts in enumerate(self._texts)
        ]
        usage = usage_of(end.usage for end in ends)
        return completion(self._subject, choices, usage=usage, backline=info_of(self._subject, ends[0]))


def completion(subject: Subject, choices: list[TextChoice], **fields: object) -> TextCompletion:
    """An answer or a chunk with these choices."""
    plain = TextCompletion(
        id="cmpl-" + subject.run_id.removeprefix("run_"),
        created=subject.created,
        model=subject.model,
        choices=choices,
        service_tier=UNSET if subject.service_tier == "default" else subject.service_tier,
    )
    return msgspec.structs.replace(plain, **fields)


def _frame(struct: TextCompletion) -> bytes:
    return b"data: " + one_line(msgspec.json.encode(struct)) + b"\n\n"
