"""Kills for want of memory: what they make of a run, and how often the kernel has made any."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


class KilledError(Exception):
    """The CLI was killed before it had said anything: the start counts, and the run is tried again."""


def oom_kills() -> int | None:
    """Kills since the control group was made; `None` where that cannot be known.

    From `memory.events` (cgroup v2) or `memory.oom_control` (v1); a host without either says nothing here.
    """
    path = _counter()
    if path is None:
        return None
    try:
        return count_in(path.read_text("ascii", "replace"))
    except OSError:
        return None


def count_in(events: str) -> int | None:
    """The number of kills in such a file's text."""
    fields = (line.split() for line in events.splitlines())
    return next((int(words[1]) for words in fields if words[:1] == ["oom_kill"] and words[1].isdigit()), None)


@cache
def _counter() -> Path | None:
    try:
        groups = [line.split(":", 2) for line in _OWN.read_text().splitlines()]
    except OSError:
        return None
    for _, controllers, group in groups:
        if not controllers:
            places = [_CGROUPS / group.lstrip("/"), _CGROUPS]  # a container may see its own as the root
            found = [place / "memory.events" for place in places]
        elif "memory" in controllers.split(","):
            places = [_CGROUPS / "memory" / group.lstrip("/"), _CGROUPS / "memory"]
            found = [place / "memory.oom_control" for place in places]
        else:
            continue
        if path := next((each for each in found if each.is_file()), None):
            return path
    return None
