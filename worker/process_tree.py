"""Ending a process with everything it started.

The CLI's tools run in sessions of their own, so a signal to its process group misses them, and a tool may
detach from its parent altogether. Descendants are therefore found twice: by parentage, and by a marker in
their environment that only this tree carries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil

MARKER_VARIABLE = "BACKLINE_TREE"
_CHASE_S = 5.0
_GONE_S = 2.0
_LOOK_S = 0.005


async def end_tree(pid: int | None, marker: str) -> None:
    """Kill process `pid`, its descendants, and whatever carries `marker`; returns when they are gone.

    `None` for a process that has been waited for: its descendants are known by the marker alone.
    """
    await asyncio.to_thread(_end_tree, pid, marker)


def _end_tree(pid: int | None, marker: str) -> None:
    give_up_at = time.monotonic() + _CHASE_S
    while time.monotonic() < give_up_at:  # a process may fork while it is being looked for
        found: set[psutil.Process] = set()
        for process in _tree(pid, marker):
            found.add(process)
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if not found:
            return
        _wait_until_gone(found)


def _tree(pid: int | None, marker: str) -> Iterator[psutil.Process]:
    """The processes to end, each as soon as it is found: what forks and exits is gone a moment later."""
    if pid is not None:
        yield from _descendants(pid)
    yield from _marked(marker)


def _wait_until_gone(processes: set[psutil.Process]) -> None:
    """Wait without reaping: psutil's own wait would take a child's exit status from the event loop."""
    give_up_at = time.monotonic() + _GONE_S
    while any(_is_alive(process) for process in processes) and time.monotonic() < give_up_at:
        time.sleep(_LOOK_S)


def _descendants(pid: int) -> set[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return {p for p in (root, *root.children(recursive=True)) if _is_alive(p)}
    except psutil.NoSuchProcess:
        return set()


def _marked(marker: str) -> Iterator[psutil.Process]:
    for process in reversed(list(psutil.process_iter())):  # the newest first: they may be gone soonest
        try:
            if process.environ().get(MARKER_VARIABLE) == marker and _is_alive(process):
                yield process
        except psutil.Error:  # gone meanwhile, or another user's
            continue


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
