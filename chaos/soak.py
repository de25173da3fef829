"""One session of chaos: start, ask and break for a while, let all end, and gather what is to be judged."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import httpx
import msgspec

from chaos.clients import KINDS, PLAIN_KINDS, Clients
from chaos.evidence import Evidence
from chaos.faults import Nemesis
from chaos.history import History
from chaos.leaks import gauges, left_at_the_end, left_when_idle, look
from chaos.model_calls import ModelCalls
from chaos.plain.evidence import read as read_plain
from chaos.products import backline, plain
from chaos.reach import Tenant, clock_from_now
from chaos.stand import AGENT, Programs, Stand

_PAUSE_S = 0.5
_WATCH_S = 0.5
_GATHER_EVERY = 10
_SLOTS = 6
_DEFAULTS: dict[str, object] = {"warm": 1, "slots": _SLOTS, "upstream_retries": 0, "drain_timeout_s": 5}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is like: how long, which faults, how many clients at a time."""

    seed: int
    minutes: float
    clients: int = 6
    every_s: tuple[float, float] = (1.0, 5.0)
    """Shortest and longest time between the mending of one fault and the next."""
    kill_every_s: float | None = None
    """Instead of all faults: a SIGKILL so often, of any process, Valkey too."""
    longest_s: float = 12.0
    """No fault lasts longer; beyond 8 s a worker loses its runs to another."""
    settings: dict[str, object] = {}
    """Settings of Backline's that differ from the stand's own."""
    is_plain: bool = False
    """Whether the plain gateway is broken instead of Backline."""


class Cast(msgspec.Struct, frozen=True):
    """Who asks: two tenants, and an admin who sees them both."""

    tenants: tuple[Tenant, Tenant]
    admin: Tenant

    @property
    def settings(self) -> dict[str, object]:
        """The settings by which an API knows them."""
        given = [
            {
                "key": each.secret,
                "tenant": each.name,
                "scopes": ["run", "read", "admin"][: 2 + (each is self.admin)],
            }
            for each in (*self.tenants, self.admin)
        ]
        return {"auth": "on", "api_keys": json.dumps(given)}


def new_cast() -> Cast:
    """Three tenants with new keys."""
    one, two, admin = (Tenant(name, secrets.token_urlsafe(24)) for name in ("one", "two", "admin"))
    return Cast((one, two), admin)


async def soak(
    plan: Plan, programs: Programs, tell: Callable[[str], None], keep: Path | None = None
) -> History:
    """Run a session and give its history. `keep` is where the processes' logs go; else they are deleted.

    Raises `TimeoutError` when the stand does not start.
    """
    with tempfile.TemporaryDirectory(
        prefix="bl-", dir="/tmp", ignore_cleanup_errors=True
    ) as directory:  # a socket's path must be short
        root = keep if keep is not None else Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        cast = new_cast()
        async with AsyncExitStack() as stack:
            ours = backline({**_DEFAULTS, **cast.settings, **plan.settings})
            stand = Stand(root, programs, plain(programs.claude, _SLOTS) if plan.is_plain else ours)
            tell("Starting two APIs, two workers, Valkey and the scripted model.")
            await stand.start(stack, apis=2, workers=2)
            return await _session(plan, stand, cast, tell)


async def _session(plan: Plan, stand: Stand, cast: Cast, tell: Callable[[str], None]) -> History:
    rng = random.Random(plan.seed)  # noqa: S311 - to be repeated, not to be secret
    began_s, clock, stop = time.monotonic(), clock_from_now(), asyncio.Event()
    history = History(plan.seed, plan.minutes)
    whose, kinds = ((Tenant(),), PLAIN_KINDS) if plan.is_plain else (cast.tenants, KINDS)
    clients = Clients(stand.urls, random.Random(rng.random()), clock, AGENT, whose, kinds)  # noqa: S311
    nemesis = Nemesis(stand, random.Random(rng.random()), clock, plan.longest_s)  # noqa: S311
    model = ModelCalls(stand.model_url)
    before = look(stand.parts)
    tell(f"Breaking things for {plan.minutes:g} min with the seed {plan.seed}.")
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(stand, nemesis, history, model))
        asking = [group.create_task(clients.ask_until(stop, _PAUSE_S)) for _ in range(plan.clients)]
        breaking = group.create_task(
            nemesis.break_until(stop, plan.every_s)
            if plan.kill_every_s is None
            else nemesis.kill_until(stop, plan.kill_every_s)
        )
        await asyncio.sleep(plan.minutes * 60)
        stop.set()
        await breaking
        tell("No more faults. Waiting for what is under way.")
        await asyncio.wait(asking)
        watch.cancel()
    history.requests, history.faults, history.batches = clients.seen, nemesis.done, clients.batches
    await _all_well(stand)
    if plan.is_plain:
        await model.gather()
        await read_plain(stand, history, model, stand.effects())
        return history
    history.left = await left_when_idle(stand)
    history.gauges = gauges(before, look(stand.parts))
    await model.gather()
    evidence = Evidence(stand.urls[0], cast.tenants, model, began_s)
    await evidence.read(history, stand.effects(), cast.admin)
    history.left += await left_at_the_end(stand)
    return history


async def _watch(stand: Stand, nemesis: Nemesis, history: History, model: ModelCalls) -> None:
    """Count the time in which no API is ready, gather the model's calls, start what ended by itself."""
    looks = 0
    async with httpx.AsyncClient(timeout=2) as http:
        while True:
            await asyncio.sleep(_WATCH_S)
            if not any([await _is_ready(http, url) for url in stand.urls]):
                history.unready_s += _WATCH_S
            for part in (*stand.apis, *stand.workers):
                if not part.runs and part is not nemesis.held_down:
                    history.deaths.append(part.name)
                    part.start()
            looks += 1
            if looks % _GATHER_EVERY == 0:
                await model.gather()


async def _is_ready(http: httpx.AsyncClient, url: str) -> bool:
    with suppress(httpx.HTTPError):
        return (await http.get(f"{url}/ready")).status_code == 200
    return False


async def _all_well(stand: Stand) -> None:
    for part in (*stand.apis, *stand.workers):
        if not part.runs:
            part.start()
    with suppress(TimeoutError):
        await stand.ready(len(stand.workers))
