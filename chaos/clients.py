"""Clients of every manner and of two tenants: which of them asks what, and what each has seen."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import httpx

from chaos import batches, turns
from chaos.history import Gathered, Kind, Seen
from chaos.prying import pry
from chaos.reach import Reach, Tenant

_PATIENCE_S = 120.0
"""No answer and no error by then is a broken promise."""
_BATCH_PATIENCE_S = 240.0
"""The same for a batch: its lines give way to all else."""
_PRIES_IN_FLIGHT_S = 1.0
KINDS: tuple[Kind, ...] = (
    *("stream", "resumed", "resumed", "whole", "background", "background"),
    *("poll", "cancel", "leave", "batch"),
)
PLAIN_KINDS: tuple[Kind, ...] = ("stream", "stream", "whole", "poll")
"""What a plain gateway has, too."""


class Clients:
    """Asks one request after another of any API that answers; `seen` and `batches` gather what each saw."""

    def __init__(
        self,
        urls: list[str],
        rng: random.Random,
        clock: Callable[[], float],
        model: str,
        tenants: Sequence[Tenant] = (Tenant(),),
        kinds: Sequence[Kind] = KINDS,
    ) -> None:
        self._urls = urls
        self._rng = rng
        self._clock = clock
        self._model = model
        self._tenants = tenants
        self._kinds = kinds
        self._count = 0
        self.seen: list[Seen] = []
        self.batches: list[Gathered] = []

    async def ask_until(self, stop: asyncio.Event, pause_s: float) -> None:
        """Ask until `stop` is set; a request that was begun is seen to its end."""
        async with httpx.AsyncClient(timeout=httpx.Timeout(_PATIENCE_S, connect=2.0)) as http:
            while not stop.is_set():
                await self.ask(http, self._rng.choice(self._kinds), self._rng.choice(self._tenants))
                await asyncio.sleep(pause_s * self._rng.random())

    async def ask(self, http: httpx.AsyncClient, kind: Kind, tenant: Tenant) -> Seen:
        """Make one request and follow it to its end, within a bound."""
        seen = self._new(kind, tenant)
        reach = Reach(http, self._urls, random.Random(self._rng.random()), self._clock, seen, tenant)  # noqa: S311
        batch, lines = self._new_batch(seen, tenant) if kind == "batch" else (None, [])
        prying = asyncio.create_task(self._pry(http, seen, batch, tenant))
        try:
            async with asyncio.timeout(_BATCH_PATIENCE_S if batch else _PATIENCE_S):
                if batch is None:
                    await turns.ask(reach, self._model)
                else:
                    await batches.ask(reach, self._model, batch, lines)
        except TimeoutError:
            seen.outcome = "hung"
        seen.ended = self._clock()
        if batch is not None and not batch.outputs and not batch.errors:
            for line in lines:
                line.outcome, line.code = "refused" if seen.outcome == "refused" else "broken", seen.code
        await prying
        return seen

    def _new(self, kind: Kind, tenant: Tenant) -> Seen:
        self._count += 1
        seen = Seen(
            marker=f"chaos-{self._count}-{self._rng.getrandbits(32):08x}",
            kind=kind,
            tokens=0 if kind == "batch" else self._rng.randint(10, 80),
            uses_tool=self._rng.random() < 0.3,
            began=self._clock(),
            tenant=tenant.name,
        )
        self.seen.append(seen)
        return seen

    def _new_batch(self, seen: Seen, tenant: Tenant) -> tuple[Gathered, list[Seen]]:
        lines = [self._new("line", tenant) for _ in range(self._rng.randint(2, 6))]
        batch = Gathered(seen.marker, tenant.name, [line.marker for line in lines])
        self.batches.append(batch)
        return batch, lines

    async def _pry(self, http: httpx.AsyncClient, seen: Seen, batch: Gathered | None, tenant: Tenant) -> None:
        """Let another tenant ask for it, while it is under way as a rule."""
        strangers = [each for each in self._tenants if each is not tenant]
        if strangers and self._rng.random() < 0.5:
            wait_s = _PRIES_IN_FLIGHT_S * (1 + self._rng.random())
            await asyncio.sleep(wait_s)
            await pry(http, self._rng.choice(self._urls), self._rng.choice(strangers), seen, batch)
