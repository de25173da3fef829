"""A history as a person should read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from chaos.check import Violation
from chaos.delays import across_restarts, after_kills
from chaos.history import Ended, Gauge, History, Seen

_MOST_SHOWN = 20
_STALL_S = 2.0
_ENDS = {"completed", "failed", "cancelled"}


def report(history: History, violations: Sequence[Violation]) -> str:
    """What happened, what was measured, and each promise that was not kept."""
    lines = [f"{name:<30}{value}" for name, value in figures(history, violations)]
    if violations:
        lines += ["", f"{len(violations)} promises not kept:"]
        lines += [f"  {each.promise}: {each.where}: {each.seen}" for each in violations[:_MOST_SHOWN]]
        if len(violations) > _MOST_SHOWN:
            lines.append(f"  … and {len(violations) - _MOST_SHOWN} more")
    return "\n".join(lines)


def spread(ordered: Sequence[float], unit: str = "s") -> str:
    """How many values there are, and where they lie."""
    if not ordered:
        return "-"
    places = zip(("p50", "p95", "p99", "longest"), (0.5, 0.95, 0.99, 1.0), strict=True)
    return f"{len(ordered)}: " + ", ".join(f"{name} {_at(ordered, part, unit)}" for name, part in places)


def figures(history: History, violations: Sequence[Violation]) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown."""
    seen, runs = history.requests, history.runs
    outcomes = Counter(str(each.outcome) for each in seen)
    errors = Counter(each.code or "?" for each in seen if each.outcome in {"failed", "refused"})
    faults = Counter(f"{each.fault} {each.target.rstrip('0123456789')}" for each in history.faults)
    accepted = [each for each in seen if each.outcome != "refused"]
    answered = [each for each in accepted if each.outcome not in {"failed", "broken", "hung"}]
    first = sorted(each.first_wait_s for each in seen if each.first_wait_s is not None)
    silences = sorted(each.longest_silence_s for each in seen if each.arrived)
    known = {run.id for run in runs}
    return [
        ("seed", f"{history.seed}, {history.minutes:g} min"),
        ("faults", f"{len(history.faults)}: {_counts(faults)}"),
        ("requests", f"{len(seen)}: {_counts(outcomes)}"),
        ("errors that clients saw", _counts(errors) or "none"),
        ("runs", f"{len(runs)}: {_counts(Counter(run.state for run in runs))}"),
        ("runs begun again", _begun_again(runs)),
        ("streams picked up again", str(sum(each.resumed for each in seen))),
        ("tokens that clients read", str(sum(len(each.numbers) for each in seen))),
        ("lost runs", str(sum(bool(each.run_id) and each.run_id not in known for each in seen))),
        ("runs without an end", str(sum(run.state not in _ENDS for run in runs))),
        ("lost or repeated tokens", str(sum(_out_of_place(each) for each in seen))),
        ("hung clients", str(outcomes["hung"])),
        ("batches", _batches(history)),
        ("given to other tenants", str(sum(len(each.foreign) for each in seen))),
        ("first text, p50 and p99", f"{_at(first, 0.5)}, {_at(first, 0.99)}"),
        ("longest silence, p50 and p99", f"{_at(silences, 0.5)}, {_at(silences, 0.99)}"),
        ("silences over 2 s", f"{sum(s > _STALL_S for s in silences)}, longest {_at(silences, 1.0)}"),
        ("silence while Valkey restarts", spread(across_restarts(history))),
        ("begun again after a kill -9", spread(after_kills(history))),
        ("… that had shown nothing", spread(after_kills(history, is_silent=True))),
        ("agents twice at a time", _overlaps(history)),
        ("tools that acted twice", str(sum(run.effects > 1 for run in runs))),
        ("processes that ended alone", str(len(history.deaths))),
        ("left behind", str(len(history.left))),
        ("descriptors", _gauges(history.gauges, lambda each: each.descriptors, 1, "")),
        ("… and agents they keep", _gauges(history.gauges, lambda each: each.children, 1, "")),
        ("memory", _gauges(history.gauges, lambda each: each.resident_bytes, 1_000_000, " MB")),
        ("no API ready", f"{history.unready_s:.0f} s"),
        ("accepted", _share(len(accepted), len(seen))),
        ("availability", f"{_share(len(answered), len(accepted))} of what was accepted"),
        ("promises not kept", str(len(violations))),
    ]


def _batches(history: History) -> str:
    made = [batch for batch in history.batches if batch.status]
    lines = sum(len(batch.lines) for batch in made)
    told = sum(len(batch.outputs) + len(batch.errors) for batch in made)
    return f"{len(made)}, {lines} lines, {told} answers and errors"


def _gauges(gauges: Sequence[Gauge], of: Callable[[Gauge], tuple[int, int]], unit: int, name: str) -> str:
    """Of each process, before and after."""
    return (
        ", ".join(f"{each.name} {of(each)[0] // unit}→{of(each)[1] // unit}{name}" for each in gauges) or "-"
    )


def _begun_again(runs: Sequence[Ended]) -> str:
    most = max((run.attempts for run in runs), default=0)
    return f"{sum(run.attempts > 1 for run in runs)}, at most {most} starts"


def _overlaps(history: History) -> str:
    """Runs whose model was called twice at a time: their worker could not hear that it had lost them."""
    overlaps = [run.overlap_s for run in history.runs if run.overlap_s > 0]
    return f"{len(overlaps)}, longest {max(overlaps):.1f} s" if overlaps else "0"


def _out_of_place(seen: Seen) -> int:
    numbers = seen.numbers
    missing = seen.tokens - len(numbers) if seen.outcome == "completed" else 0
    return max(0, missing) + sum(number != at for at, number in enumerate(numbers))


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _at(ordered: Sequence[float], part: float, unit: str = "s") -> str:
    return f"{ordered[min(len(ordered) - 1, int(part * len(ordered)))]:.2f} {unit}" if ordered else "-"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
