"""A session without a fault, under an even load: what does not come back shows as a slope."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from statistics import linear_regression

import httpx
import msgspec

from chaos.clients import KINDS, Clients
from chaos.history import Kind
from chaos.leaks import left_at_the_end, left_when_idle, look
from chaos.products import backline
from chaos.reach import clock_from_now
from chaos.report import spread
from chaos.soak import new_cast
from chaos.stand import AGENT, Part, Programs, Stand
from shared.registry import RegistryStore

_LOAD = 2 / 3
_SAMPLE_S = 2.0
_KNOCK_S = 0.05
_WARM_UP = 1 / 4
"""Of the time: until then caches and pools fill."""
_SETTINGS: dict[str, object] = {"warm": 1, "max_live": 8, "upstream_retries": 0}
_OTHERS = {"cancel", "leave", "batch"}
_STEADY_KINDS: tuple[Kind, ...] = (*(kind for kind in KINDS if kind not in _OTHERS), *("talk",) * 8)


class Sample(msgspec.Struct, frozen=True):
    """A process at a moment: seconds since the beginning, bytes, descriptors."""

    at: float
    resident_bytes: int
    descriptors: int


class Steady(msgspec.Struct):
    """What was measured: samples of each process, and how late event loops were (s, in rising order)."""

    minutes: float
    samples: dict[str, list[Sample]] = {}
    knocks: list[float] = []
    """How long an API took to say that it lives: all of it waits for its event loop."""
    workers_late: list[float] = []
    """What workers said of theirs: the 99th percentiles of a minute."""
    requests: int = 0
    failures: int = 0
    left: list[str] = []


async def steady(
    minutes: float, clients: int, seed: int, programs: Programs, tell: Callable[[str], None]
) -> Steady:
    """Let so many ask for so many minutes, of a worker with half as many slots again.

    Raises `TimeoutError` when nothing starts.
    """
    cast, found = new_cast(), Steady(minutes)
    with tempfile.TemporaryDirectory(prefix="bl-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        async with AsyncExitStack() as stack:
            slots = {"slots": round(clients / _LOAD)}
            stand = Stand(Path(directory), programs, backline({**_SETTINGS, **slots, **cast.settings}))
            tell("Starting an API, a worker, Valkey and the scripted model.")
            await stand.start(stack, apis=1, workers=1)
            clock, stop = clock_from_now(), asyncio.Event()
            rng = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
            crowd = Clients(stand.urls, rng, clock, AGENT, cast.tenants, _STEADY_KINDS)
            tell(f"Asking for {minutes:g} min.")
            async with asyncio.TaskGroup() as group:
                watching = [
                    group.create_task(_sample([*stand.apis, *stand.workers], found, clock)),
                    group.create_task(_knock(stand.urls[0], found)),
                    group.create_task(_hear_workers(stand, found)),
                ]
                asking = [group.create_task(crowd.ask_until(stop, 0)) for _ in range(clients)]
                await asyncio.sleep(minutes * 60)
                stop.set()
                await asyncio.wait(asking)
                for task in watching:
                    task.cancel()
            found.requests = len(crowd.seen)
            found.failures = sum(each.outcome != "completed" for each in crowd.seen)
            found.left = [*await left_when_idle(stand), *await left_at_the_end(stand)]
    return found


def lines_of(found: Steady) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are shown."""
    lines = [("requests", f"{found.requests} in {found.minutes:g} min, {found.failures} failed")]
    for name, samples in found.samples.items():
        late = samples[int(_WARM_UP * len(samples)) :]
        memory = f"{slope_mb_per_h(late):+.1f} MB/h, {late[-1].resident_bytes / 1e6:.0f} MB at the end"
        lines.append((f"{name} memory", memory))
        lines.append((f"{name} descriptors", f"{late[0].descriptors}→{late[-1].descriptors}"))
    lines.append(("API answers to /health", spread([1000 * each for each in sorted(found.knocks)], "ms")))
    lines.append(("worker's event loop, p99", spread(sorted(found.workers_late), "ms")))
    lines.append(("left behind", str(len(found.left))))
    return lines


def slope_mb_per_h(samples: Sequence[Sample]) -> float:
    """How fast memory grows, by least squares; 0 of less than two samples."""
    if len(samples) < 2:
        return 0.0
    slope, _ = linear_regression([each.at for each in samples], [each.resident_bytes for each in samples])
    return slope * 3600 / 1e6


async def _sample(parts: Sequence[Part], found: Steady, clock: Callable[[], float]) -> None:
    while True:
        for name, (descriptors, _, resident) in look(parts).items():
            found.samples.setdefault(name, []).append(Sample(clock(), resident, descriptors))
        await asyncio.sleep(_SAMPLE_S)


async def _knock(url: str, found: Steady) -> None:
    clock = asyncio.get_running_loop().time
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        while True:
            await asyncio.sleep(_KNOCK_S)
            asked = clock()
            with suppress(httpx.HTTPError):
                await http.get("/health")
                found.knocks.append(clock() - asked)


async def _hear_workers(stand: Stand, found: Steady) -> None:
    async with stand.redis() as redis:
        registry = RegistryStore(redis)
        while True:
            await asyncio.sleep(_SAMPLE_S)
            found.workers_late += [worker.loop_p99_ms for worker in (await registry.look()).workers]
