"""A history as a person should read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chaos.check import Violation
from chaos.history import Ended, History, Seen

_MOST_SHOWN = 20
_STALL_S = 2.0


def report(history: History, violations: Sequence[Violation]) -> str:
    """What happened, what was measured, and each promise that was not kept."""
    lines = [f"{name:<28}{value}" for name, value in figures(history, violations)]
    if violations:
        lines += ["", f"{len(violations)} promises not kept:"]
        lines += [f"  {each.promise}: {each.where}: {each.seen}" for each in violations[:_MOST_SHOWN]]
        if len(violations) > _MOST_SHOWN:
            lines.append(f"  … and {len(violations) - _MOST_SHOWN} more")
    return "\n".join(lines)


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
        ("lost or repeated tokens", str(sum(_out_of_place(each) for each in seen))),
        ("hung clients", str(outcomes["hung"])),
        ("silences over 2 s", f"{sum(s > _STALL_S for s in silences)}, longest {_at(silences, 1.0)}"),
        ("first text, p50 and p99", f"{_at(first, 0.5)}, {_at(first, 0.99)}"),
        ("agents twice at a time", _overlaps(history)),
        ("tools that acted twice", str(sum(run.effects > 1 for run in runs))),
        ("no API ready", f"{history.unready_s:.0f} s"),
        ("accepted", _share(len(accepted), len(seen))),
        ("availability", f"{_share(len(answered), len(accepted))} of what was accepted"),
        ("promises not kept", str(len(violations))),
    ]


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


def _at(ordered: Sequence[float], part: float) -> str:
    return f"{ordered[min(len(ordered) - 1, int(part * len(ordered)))]:.2f} s" if ordered else "-"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
