"""What is broken, when and for how long: drawn from a seed, done to one part at a time."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from chaos.history import Broken
from chaos.proxy import Trouble
from chaos.stand import Part, Stand


class _Blow(NamedTuple):
    fault: str
    target: Part
    for_s: float
    strike: Callable[[], Awaitable[None]]


class Nemesis:
    """Breaks and mends the parts of a stand. The same seed gives the same faults in the same order."""

    def __init__(
        self, stand: Stand, rng: random.Random, clock: Callable[[], float], longest_s: float
    ) -> None:
        self._stand = stand
        self._rng = rng
        self._clock = clock
        self._longest_s = longest_s
        self.done: list[Broken] = []
        self.held_down: Part | None = None
        """What has been ended on purpose and is not started again yet."""

    async def break_until(self, stop: asyncio.Event, every_s: tuple[float, float]) -> None:
        """Break something, mend it, and wait a while, until `stop` is set."""
        while not stop.is_set():
            await _unless(stop, self._rng.uniform(*every_s))
            if not stop.is_set():
                await self.strike(self.draw())

    async def kill_until(self, stop: asyncio.Event, every_s: float) -> None:
        """Kill a process with SIGKILL every so many seconds, whatever else, until `stop` is set."""
        at = self._clock()
        while not stop.is_set():
            at = max(at + every_s, self._clock())
            await _unless(stop, at - self._clock())
            if not stop.is_set():
                for_s = min(self._rng.choice([0.5, 1.0, 2.0, 3.0]), self._longest_s)
                await self.strike(
                    self._blow("kill -9", self._rng.choice(self._stand.parts), for_s, self._kill)
                )

    def draw(self) -> _Blow:
        """The next fault."""
        rng, stand = self._rng, self._stand
        anyone = rng.choice([*stand.apis, *stand.workers])
        worker, api = rng.choice(stand.workers), rng.choice(stand.apis)
        for_s = min(rng.choice([0.5, 1.0, 2.0, 4.0]), self._longest_s)
        long_s = min(rng.choice([1.0, 3.0, 5.0, 10.0, 12.0]), self._longest_s)
        blows = [
            (4, self._blow("kill -9", worker, for_s, self._kill)),
            (3, self._blow("kill -9", api, for_s, self._kill)),
            (2, self._blow("kill -9", stand.valkey, min(for_s, 3.0), self._kill)),
            (1, self._blow("SIGTERM", worker, 0.0, self._replace)),
            (1, self._blow("SIGTERM", api, 0.0, self._replace)),
            (1, self._blow("SIGTERM", stand.valkey, for_s, self._replace)),
            (2, self._blow("SIGSTOP", anyone, long_s, self._freeze)),
            (2, self._blow("stall", anyone, long_s, self._cut_off)),
            (1, self._blow("cut", anyone, long_s, self._cut_off)),
        ]
        return rng.choices([blow for _, blow in blows], [weight for weight, _ in blows])[0]

    async def strike(self, blow: _Blow) -> None:
        """Do it, and mend it."""
        at, pid = self._clock(), blow.target.pid
        await blow.strike()
        self.done.append(Broken(blow.fault, blow.target.name, at, self._clock() - at, pid))

    def _blow(
        self, fault: str, target: Part, for_s: float, how: Callable[[str, Part, float], Awaitable[None]]
    ) -> _Blow:
        return _Blow(fault, target, for_s, lambda: how(fault, target, for_s))

    async def _kill(self, _: str, part: Part, for_s: float) -> None:
        await self._end(part, signal.SIGKILL, for_s)

    async def _replace(self, _: str, part: Part, for_s: float) -> None:
        await self._end(part, signal.SIGTERM, for_s)

    async def _end(self, part: Part, by: signal.Signals, for_s: float) -> None:
        self.held_down = part
        try:
            part.send(by)
            await part.ended()
            await asyncio.sleep(for_s)
            await self._start(part)
        finally:
            self.held_down = None

    async def _freeze(self, _: str, part: Part, for_s: float) -> None:
        part.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            part.send(signal.SIGCONT)

    async def _cut_off(self, fault: str, part: Part, for_s: float) -> None:
        assert part.proxy is not None  # noqa: S101 - APIs and workers alone are cut off
        kind: Trouble = "cut" if fault == "cut" else "stall"
        part.proxy.trouble(kind)
        try:
            await asyncio.sleep(for_s)
        finally:
            part.proxy.trouble("none")

    async def _start(self, part: Part) -> None:
        if part is self._stand.valkey:
            self._stand.start_valkey()
            await self._stand.valkey_answers()
        else:
            part.start()


async def _unless(stop: asyncio.Event, for_s: float) -> None:
    try:
        async with asyncio.timeout(for_s):
            await stop.wait()
    except TimeoutError:
        return
