"""The promises, held against a history. Pure: it looks at nothing but what it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from chaos.history import Ended, History, Seen

_MOST_STARTS = 3
_MODEL_CALLS = {False: 1, True: 2}
"""Model calls of a turn by whether it uses a tool."""


class Violation(msgspec.Struct, frozen=True):
    """A promise that was not kept: which, by what, and what was seen."""

    promise: str
    where: str
    seen: str


def check(history: History) -> list[Violation]:
    """Every promise that this history breaks."""
    by_id = {run.id: run for run in history.runs}
    found: list[Violation] = []
    for seen in history.requests:
        found += _of_request(seen, by_id)
    for run in history.runs:
        found += _of_run(run)
    found += _of_all(history)
    return found


def _of_request(seen: Seen, runs: dict[str, Ended]) -> Iterator[Violation]:
    def broken(promise: str, what: object) -> Violation:
        return Violation(promise, f"{seen.kind} {seen.marker} {seen.run_id}", str(what))

    if seen.run_id and seen.run_id not in runs:
        yield broken("an accepted run is not lost", "no record of it")
    if seen.outcome == "hung":
        yield broken("nothing waits without a bound", f"no answer and no error; {len(seen.texts)} texts")
    if seen.outcome == "refused" and seen.run_id:
        yield broken("what was refused was not accepted", seen.code)
    numbers = seen.numbers
    if numbers != list(range(len(numbers))):
        yield broken("a stream has no gap and no repeat", _around(numbers))
    if len(numbers) > seen.tokens:
        yield broken("a stream says what the model said, and no more", f"{len(numbers)} of {seen.tokens}")
    if seen.outcome == "completed" and len(numbers) != seen.tokens:
        yield broken("a completed answer is whole", f"{len(numbers)} of {seen.tokens}")
    if any(_place(b) <= _place(a) for a, b in pairwise(seen.ids)):
        yield broken("the numbers of frames rise", seen.ids)
    state = runs[seen.run_id].state if seen.run_id in runs else seen.outcome
    if seen.outcome in {"completed", "cancelled"} and state != seen.outcome:
        yield broken("client and record agree on the end", f"{seen.outcome}, but {state}")


def _of_run(run: Ended) -> Iterator[Violation]:
    def broken(promise: str, what: object) -> Violation:
        return Violation(promise, f"run {run.id} {run.marker}", str(what))

    if run.state not in {"completed", "failed", "cancelled"}:
        yield broken("a run ends", run.state)
    if run.ends != 1:
        yield broken("a run ends once", f"{run.ends} terminal events")
    if run.attempts > _MOST_STARTS:
        yield broken("a run is started three times at most", run.attempts)
    if any(b <= a for a, b in pairwise(run.event_numbers)):
        yield broken("the numbers of events rise", _around(run.event_numbers))
    if run.numbers != list(range(len(run.numbers))):
        yield broken("a log has no gap and no repeat", _around(run.numbers))
    if run.effects > max(1, run.attempts):
        yield broken("a tool takes effect once for each start at most", f"{run.effects} of {run.attempts}")
    if run.model_calls > max(1, run.attempts) * _MODEL_CALLS[True]:
        yield broken("the model is called for starts alone", f"{run.model_calls} of {run.attempts}")


def _of_all(history: History) -> Iterator[Violation]:
    for what in history.left:
        yield Violation("nothing is left behind", "at the end", what)
    for marker, count in Counter(run.marker for run in history.runs).items():
        if count > 1:
            yield Violation("a request is one run", marker, f"{count} runs")
    used = sum(run.output_tokens for run in history.runs)
    if used != history.counted_output_tokens:
        said = f"{used} output tokens of runs, {history.counted_output_tokens} in the totals"
        yield Violation("usage is counted once", "at the end", said)


def _place(frame_id: str) -> tuple[int, int]:
    """Where a frame stands: of `17.2`, `17.1` and `17`, the last comes last."""
    number, _, left = frame_id.partition(".")
    return int(number), -int(left or 0)


def _around(numbers: list[int]) -> str:
    """The numbers about the first that is out of place."""
    at = next((i for i, (a, b) in enumerate(pairwise(numbers)) if b != a + 1), 0)
    return f"… {numbers[max(0, at - 2) : at + 4]} … at {at + 1} of {len(numbers)}"
