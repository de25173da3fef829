"""What every client asked and saw, and what was broken when: the material that `check` judges."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["stream", "resumed", "whole", "background", "poll", "cancel", "leave", "batch", "line", "talk"]
"""A `batch` is a file of requests, and each `line` of it a request of its own; a `talk` has several turns."""
Outcome = Literal["completed", "cancelled", "failed", "refused", "broken", "left", "hung"]

MARKER = r"chaos-\d+-[0-9a-f]{8}"
"""What a request is known by, from its client to the model."""
_TOKEN = re.compile(r"t(\d+)")


class Seen(msgspec.Struct):
    """One request: what was asked, and what its client saw. Times are in seconds since the beginning."""

    marker: str
    kind: Kind
    tokens: int
    uses_tool: bool
    began: float
    run_id: str = ""
    """Empty until the client was told that its run is accepted."""
    response_id: str = ""
    texts: list[str] = []
    ids: list[str] = []
    """Ids of the frames, in the order in which they came."""
    arrived: list[float] = []
    """When each text came."""
    outcome: Outcome = "hung"
    code: str = ""
    """Of the error, if there was one."""
    resumed: int = 0
    """How often the stream was picked up again after its connection broke."""
    ended: float = 0.0
    tenant: str = ""
    foreign: list[str] = []
    """What another tenant was given of it: must stay empty."""

    @property
    def numbers(self) -> list[int]:
        """The numbers of the tokens that came."""
        return numbers_of("".join(self.texts))

    @property
    def first_wait_s(self) -> float | None:
        """From the request to the first text."""
        return self.arrived[0] - self.began if self.arrived else None

    @property
    def longest_silence_s(self) -> float:
        """The longest time without a text once texts came."""
        return max((b - a for a, b in pairwise(self.arrived)), default=0.0)


class Gathered(msgspec.Struct):
    """A batch as its client and the list of batches tell of it: its lines are known by their markers."""

    marker: str
    tenant: str
    lines: list[str]
    id: str = ""
    status: str = ""
    """Empty when nobody ever heard of it: its client's connection broke before it was made."""
    total: int = 0
    completed: int = 0
    failed: int = 0
    outputs: list[str] = []
    """Markers in the output file, in its order."""
    errors: list[str] = []
    """The same of the file of errors."""


class Broken(msgspec.Struct, frozen=True):
    """A fault: what was done to whom, when and for how long, in seconds. `pid` is the process it struck."""

    fault: str
    target: str
    at: float
    for_s: float
    pid: int = 0


class Ended(msgspec.Struct, frozen=True):
    """A run as the API tells of it when all is over."""

    id: str
    marker: str
    state: str
    attempts: int
    numbers: list[int]
    """Of the tokens in its log."""
    event_numbers: list[int]
    hidden: int
    """Events that are not told to readers."""
    ends: int
    output_tokens: int
    error: str
    model_calls: int
    overlap_s: float
    """How long two of its model calls were under way at the same time."""
    effects: int
    """How often its tool took effect."""
    tenant: str = ""
    """Whose list of runs it stands in."""
    workers: list[int] = []
    """Ids of the processes that began it, in turn."""
    calls: list[float] = []
    """When its calls of the model began, in seconds since the beginning."""
    shown_by: list[int] = []
    """The attempts that showed a text."""


class Gauge(msgspec.Struct):
    """What a process held when all was idle: before the first fault, and after the last."""

    name: str
    descriptors: tuple[int, int]
    children: tuple[int, int]
    """Processes of its own: each is spoken to over a few descriptors."""
    resident_bytes: tuple[int, int]


class History(msgspec.Struct):
    """All of one session of chaos."""

    seed: int
    minutes: float
    requests: list[Seen] = []
    faults: list[Broken] = []
    runs: list[Ended] = []
    batches: list[Gathered] = []
    gauges: list[Gauge] = []
    deaths: list[str] = []
    """Processes that ended by themselves, and were started again."""
    left: list[str] = []
    """What was left behind when all had ended."""
    counted_output_tokens: int = 0
    """As the API's own totals have it."""
    unready_s: float = 0.0
    """How long no API said that it was ready."""

    def write(self, path: Path) -> None:
        """Write it as JSON lines."""
        told: tuple[tuple[str, Sequence[msgspec.Struct]], ...] = (
            ("request", self.requests),
            ("fault", self.faults),
            ("run", self.runs),
            ("batch", self.batches),
            ("process", self.gauges),
        )
        lines: list[dict[str, object]] = [
            {"is": "history", "seed": self.seed, "minutes": self.minutes, "left": self.left}
        ]
        for name, all_of_it in told:
            lines += [{"is": name, **msgspec.structs.asdict(each)} for each in all_of_it]
        path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def numbers_of(text: str) -> list[int]:
    """The numbers of the tokens "t0 t1 …" in a text."""
    return [int(number) for number in _TOKEN.findall(text)]
