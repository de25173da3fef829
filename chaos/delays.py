"""What faults cost in time: how long streams were silent, and until runs went on elsewhere."""

from __future__ import annotations

from itertools import pairwise

from chaos.history import Broken, Ended, History

_JUST_S = 0.5
"""A stream that had spoken this shortly before a fault was silenced by that fault."""


def across_restarts(history: History) -> list[float]:
    """The silences (s) of streams that spoke when Valkey was killed or ended, in rising order."""
    restarts = [fault.at for fault in history.faults if fault.target == "valkey"]
    return sorted(
        after - before
        for seen in history.requests
        for before, after in pairwise(seen.arrived)
        if any(before <= at <= min(after, before + _JUST_S) for at in restarts)
    )


def after_kills(history: History, *, is_silent: bool = False) -> list[float]:
    """From the SIGKILL of a worker until the model was asked again for a run that it had, in seconds.

    In rising order. With `is_silent`, of those alone that had shown nothing.
    """
    kills = [
        fault for fault in history.faults if fault.fault == "kill -9" and fault.target.startswith("worker")
    ]
    waits = [
        min(later) - kill.at
        for run in history.runs
        for kill in kills
        if _had(run, kill, is_silent=is_silent) and (later := [call for call in run.calls if call > kill.at])
    ]
    return sorted(waits)


def _had(run: Ended, kill: Broken, *, is_silent: bool) -> bool:
    """Whether a worker that was killed had begun a run, which another began after it."""
    if kill.pid not in run.workers[:-1]:
        return False
    attempt = run.workers.index(kill.pid) + 1
    return not is_silent or not any(number <= attempt for number in run.shown_by)
