"""The two sides of every comparison, as the measurements see them."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

import psutil

from benchmarks.reply import BenchmarkError, Reply
from benchmarks.results import Cpu

_IS_LINUX = platform.system() == "Linux"
_SETTLE_S = 60.0
_IDLE_S = 1.0
_IDLE_CPU_S = 0.1
_POLL_S = 0.1


class Side(Protocol):
    """One way to ask the CLI."""

    async def ask(self, prompt: str, reply: Reply) -> None:
        """Ask, fill `reply` as it comes, and return when nothing of it is left running on this side.

        Cancelled, it ends the reply. Raises `BenchmarkError` when the reply fails.
        """

    def cpu(self) -> Cpu:
        """CPU time so far of all parts that are running now; `tokens` is 0."""

    async def quiet(self) -> None:
        """Return when no CLI is left; raises `BenchmarkError` when they do not go."""


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """CPU seconds of those processes so far, those that are gone left out."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess, OSError):
            total += _cpu_s(process)
    return total


async def settled(parent: psutil.Process, count: int) -> list[psutil.Process]:
    """Wait until `parent` has had just `count` children, all idle, for a second; gives them.

    Raises `BenchmarkError` when that does not happen in a minute.
    """
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + _SETTLE_S
    children: list[psutil.Process] = []
    since, used_s = clock(), 0.0
    while clock() < give_up_at:
        now = parent.children()
        if now != children or len(now) != count or cpu_s(now) - used_s > _IDLE_CPU_S:
            children, since, used_s = now, clock(), cpu_s(now)
        elif clock() - since >= _IDLE_S:
            return children
        await asyncio.sleep(_POLL_S)
    raise BenchmarkError(f"There are {len(children)} processes that do not come to rest, instead of {count}.")


def _cpu_s(process: psutil.Process) -> float:
    if _IS_LINUX:
        # The id of another process's CPU clock, as clock_getcpuclockid(3) builds it: exact to the
        # nanosecond, where /proc counts in steps of 10 ms, which is 20 tokens of one stream.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return times.user + times.system
