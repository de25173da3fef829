"""How much of the machine others used meanwhile: above a few percent, only ratios say something."""

from __future__ import annotations

import resource

import psutil


class Noise:
    """Counts from its making. What we used is known once our processes have ended and been waited for."""

    def __init__(self) -> None:
        self._all_s, self._idle_s = _machine()
        self._own_s = _own()

    def share(self) -> float:
        """The share of all cores' time that neither was idle nor went to us or to what we started."""
        all_s, idle_s = _machine()
        passed_s = all_s - self._all_s
        others_s = passed_s - (idle_s - self._idle_s) - (_own() - self._own_s)
        return max(0.0, others_s / passed_s) if passed_s > 0 else 0.0


def _machine() -> tuple[float, float]:
    """Seconds of all cores since boot, and those of them that were idle."""
    times = psutil.cpu_times()._asdict()
    for counted_twice in ("guest", "guest_nice"):  # they are within `user` and `nice`
        times.pop(counted_twice, None)
    return sum(times.values()), times["idle"] + times.get("iowait", 0.0)


def _own() -> float:
    """Our CPU seconds, with those of descendants that every parent on the way has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)
