"""The promises, held against a history. Pure: it looks at nothing but what it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import msgspec

from chaos.history import Ended, Gathered, Gauge, History, Seen

_MOST_STARTS = 3
_DESCRIPTORS_EACH_CHILD = 6
_SPARE_DESCRIPTORS = 24
"""Connections and the like that come and go."""
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
    owners = {seen.marker: seen.tenant for seen in history.requests}
    for run in history.runs:
        found += _of_run(run)
        if run.tenant != owners.get(run.marker, run.tenant):
            said = f"it is {owners[run.marker]}'s, and listed for {run.tenant}"
            found.append(Violation("tenants see nothing of each other", f"run {run.id}", said))
    for batch in history.batches:
        found += _of_batch(batch)
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
    if seen.foreign:
        yield broken("tenants see nothing of each other", seen.foreign)
    yield from _of_words(seen)
    if any(_place(b) <= _place(a) for a, b in pairwise(seen.ids)):
        yield broken("the numbers of frames rise", seen.ids)
    state = runs[seen.run_id].state if seen.run_id in runs else seen.outcome
    if seen.outcome in {"completed", "cancelled"} and state != seen.outcome:
        yield broken("client and record agree on the end", f"{seen.outcome}, but {state}")


def _of_words(seen: Seen) -> Iterator[Violation]:
    def broken(promise: str, what: object) -> Violation:
        return Violation(promise, f"{seen.kind} {seen.marker} {seen.run_id}", str(what))

    numbers = seen.numbers
    if numbers != list(range(len(numbers))):
        yield broken("a stream has no gap and no repeat", _around(numbers))
    if len(numbers) > seen.tokens:
        yield broken("a stream says what the model said, and no more", f"{len(numbers)} of {seen.tokens}")
    if seen.outcome == "completed" and len(numbers) != seen.tokens:
        yield broken("a completed answer is whole", f"{len(numbers)} of {seen.tokens}")


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


def _of_batch(batch: Gathered) -> Iterator[Violation]:
    def broken(promise: str, what: object) -> Violation:
        return Violation(promise, f"batch {batch.id} {batch.marker}", str(what))

    if not batch.status:
        if batch.id:
            yield broken("an accepted batch is not lost", "no record of it")
        return
    if batch.status != "completed":
        yield broken("a batch ends", batch.status)
        return
    if sorted([*batch.outputs, *batch.errors]) != sorted(batch.lines):
        yield broken("each line of a batch is answered once", [*batch.outputs, *batch.errors])
    counted = (batch.total, batch.completed, batch.failed)
    if counted != (len(batch.lines), len(batch.outputs), len(batch.errors)):
        yield broken("a batch counts its lines", counted)


def _leaks(gauge: Gauge) -> bool:
    """Whether a process holds more descriptors than it did, and than its children explain."""
    more = [now - before for before, now in (gauge.descriptors, gauge.children)]
    return more[0] > max(0, more[1]) * _DESCRIPTORS_EACH_CHILD + _SPARE_DESCRIPTORS


def _of_all(history: History) -> Iterator[Violation]:
    for what in history.left:
        yield Violation("nothing is left behind", "at the end", what)
    for name in history.deaths:
        yield Violation("processes end when they are told, or killed", name, "it ended by itself")
    for gauge in filter(_leaks, history.gauges):
        yield Violation("descriptors are given back", gauge.name, f"{gauge.descriptors}")
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
