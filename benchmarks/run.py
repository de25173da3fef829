"""One benchmark run: the measurements in order, each on a fresh stack."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

import msgspec

from benchmarks import batches, dashboard, first_token, keys, sessions, streams, throughput
from benchmarks.noise import Noise
from benchmarks.plan import Plan
from benchmarks.results import Host, Results
from benchmarks.stack import Stack, running_stack
from shared.settings import Settings

PARTS = ("first-token", "streams", "throughput", "sessions", "batches", "keys", "dashboard")
"""What can be measured by itself; `streams` gives delay and CPU, peak memory is of all that ran."""
_WARM = 2

Say = Callable[[str], None]


class Run:
    """Collects `results`, which hold all that was measured so far whenever the run stops."""

    def __init__(self, plan: Plan, host: Host, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._began = time.monotonic()
        self._noise = Noise()
        self.results = Results(host=host, took_s=0.0, pace_ms=streams.PACE_MS)

    async def measure(self, parts: Collection[str] = PARTS) -> bool:
        """Measure `parts`; gives whether the time limit left room for all of them.

        Raises `BenchmarkError` when something that is measured fails.
        """
        try:
            async with asyncio.timeout(self._plan.limit_s):
                for part in PARTS:
                    if part in parts:
                        self._say(f"Measuring {part} …")
                        await self._measure(part)
        except TimeoutError:
            self._say(f"Stopped at the limit of {self._plan.limit_s:g} s.")
            return False
        finally:
            took_s = time.monotonic() - self._began
            self.results = msgspec.structs.replace(self.results, took_s=took_s, others=self._noise.share())
        return True

    async def _measure(self, part: str) -> None:
        plan = self._plan
        match part:
            case "first-token":
                async with running_stack(slots=Settings().slots) as stack:
                    measured = await first_token.measure(stack, requests=plan.first_token_requests)
                    self._keep(stack, first_token=measured)
            case "streams":
                async with running_stack(slots=max(plan.stream_counts)) as stack:
                    await self._measure_streams(stack, plan.stream_counts)
            case "throughput":
                async with running_stack(slots=Settings().slots) as stack:
                    await self._measure_throughput(stack)
            case "sessions":
                await self._measure_sessions()
            case "batches":
                async with running_stack(slots=Settings().slots) as stack:
                    await self._measure_batches(stack)
            case "dashboard":
                shown = await dashboard.measure(plan.runs, requests=plan.page_requests, idle_s=plan.idle_s)
                self.results = msgspec.structs.replace(self.results, dashboard=shown)
            case _:
                cost = await keys.measure(plan.key_requests, keys=plan.keys)
                self.results = msgspec.structs.replace(self.results, key_cost=cost)

    async def _measure_streams(self, stack: Stack, counts: Sequence[int]) -> None:
        for count in counts:
            one = await streams.measure(
                stack, count, rounds=self._plan.stream_rounds, window_s=self._plan.window_s
            )
            self._keep(stack, streams=[*self.results.streams, one])

    async def _measure_throughput(self, stack: Stack) -> None:
        for concurrency, count in self._plan.throughput_requests.items():
            one = await throughput.measure(stack, concurrency, count, rounds=self._plan.throughput_rounds)
            self._keep(stack, throughput=[*self.results.throughput, one])

    async def _measure_sessions(self) -> None:
        plan, slots = self._plan, Settings().slots
        async with running_stack(slots=slots, warm=_WARM, max_live=plan.chats) as stack:
            chats, memory = await sessions.measure_chats(stack, chats=plan.chats, turns=plan.chat_turns)
            self._keep(stack, chats=chats, memory=memory)
        async with running_stack(slots=slots) as stack:
            resumed = await sessions.measure_resumed(
                stack, chats=plan.resumed_chats, turns=plan.resumed_turns
            )
            self._keep(stack, resumed=resumed)
            seeding = await sessions.measure_seeding(stack, plan.seeded_turns, rounds=plan.seeded_rounds)
            self._keep(stack, seeding=seeding)

    async def _measure_batches(self, stack: Stack) -> None:
        plan = self._plan
        beside = await batches.measure_beside(stack, lines=plan.batch_lines, requests=plan.batch_requests)
        self._keep(stack, beside_batch=beside)
        rate = await batches.measure_rate(stack, plan.batch_rate_lines, rounds=plan.batch_rounds)
        self._keep(stack, batch_rate=rate)

    def _keep(self, stack: Stack, **measured: object) -> None:
        self.results = msgspec.structs.replace(
            self.results, peak=self.results.peak | stack.peak(), **measured
        )
