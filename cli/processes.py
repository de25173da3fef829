"""Ending a process that is not our child."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

_POLL_S = 0.02


def end_stranger(process: psutil.Process, grace_s: float) -> None:
    """Ask `process` to end and kill it after `grace_s` seconds; return when it no longer runs.

    A zombie counts as ended: who adopted it may be slow to collect it, and `Process.wait` waits for that.
    """
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        deadline = time.monotonic() + grace_s
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(_POLL_S)
