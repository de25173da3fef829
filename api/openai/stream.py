"""The stream of a chat completion: its choices side by side, its end, and its signs of life."""

from __future__ import annotations

from collections.abc import Sequence

from api.errors import ApiError
from api.openai.answer import Fold, Subject
from api.openai.chunks import KEEP_ALIVE, Chunks, ending, error_frame
from api.openai.output_format import Formatted
from shared.run_events import RunCompleted, RunEvent


class ChunkStream:
    """The stream of all choices; what it says goes into `fold` too."""

    def __init__(
        self,
        subject: Subject,
        count: int,
        *,
        include_usage: bool,
        fold: Fold | None = None,
        formats: Sequence[Formatted] = (),
    ) -> None:
        self._subject = subject
        self._include_usage = include_usage
        self._fold = fold
        self._formats = formats
        self._choices = [Chunks(subject, include_usage=include_usage, index=index) for index in range(count)]

    def opening(self) -> bytes:
        """The frames that open all choices at once, when there are several."""
        return b"".join(choice.start() for choice in self._choices) if len(self._choices) > 1 else b""

    def encode(self, index: int, event: RunEvent) -> bytes:
        """Frames for one event of a choice."""
        if self._formats:
            return b"".join(self._encode(index, one) for one in self._formats[index].events(event))
        return self._encode(index, event)

    def _encode(self, index: int, event: RunEvent) -> bytes:
        if self._fold is not None:
            self._fold.add(index, event)
        return self._choices[index].encode(event)

    def ending(self, completed: list[RunCompleted]) -> bytes:
        """The usage of all, if asked for, and the mark."""
        return ending(self._subject, completed, include_usage=self._include_usage)

    def pause(self) -> bytes:
        """A comment."""
        return KEEP_ALIVE

    def error(self, error: ApiError) -> bytes:
        """A frame with the error."""
        return error_frame(error)
