"""One session of chaos: start, ask and break for a while, let all end, and gather what is to be judged."""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
from redis.asyncio import Redis

from chaos.clients import Clients, clock_from_now
from chaos.faults import Nemesis
from chaos.history import MARKER, Ended, History, numbers_of
from chaos.stand import AGENT, Programs, Stand
from shared import redis_keys as keys

_IDLE_S = 30.0
_POLL_S = 0.2
_PAUSE_S = 0.5
_WATCH_S = 0.5
_GATHER_EVERY = 10
_LEFTOVERS = ("backline:queue:*", keys.lease("*"), keys.job("*"), "arq:retry:*")
_BESIDE_QUEUES = (":taken", ":paused")
"""Notes about queues that lapse by themselves."""
_DEFAULTS: dict[str, object] = {"warm": 1, "slots": 6, "upstream_retries": 0, "drain_timeout_s": 5}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is like: how long, which faults, how many clients at a time."""

    seed: int
    minutes: float
    clients: int = 6
    every_s: tuple[float, float] = (1.0, 5.0)
    """Shortest and longest time between the mending of one fault and the next."""
    longest_s: float = 12.0
    """No fault lasts longer; beyond 8 s a worker loses its runs to another."""
    settings: dict[str, object] = {}
    """Settings of Backline's that differ from the stand's own."""


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
        async with AsyncExitStack() as stack:
            stand = Stand(root, programs, {**_DEFAULTS, **plan.settings})
            tell("Starting two APIs, two workers, Valkey and the scripted model.")
            await stand.start(stack, apis=2, workers=2)
            return await _session(plan, stand, tell)


async def _session(plan: Plan, stand: Stand, tell: Callable[[str], None]) -> History:
    rng = random.Random(plan.seed)  # noqa: S311 - to be repeated, not to be secret
    clock, stop = clock_from_now(), asyncio.Event()
    history = History(plan.seed, plan.minutes)
    clients = Clients(stand.urls, random.Random(rng.random()), clock, AGENT)  # noqa: S311
    nemesis = Nemesis(stand, random.Random(rng.random()), clock, plan.longest_s)  # noqa: S311
    model = _ModelCalls(stand.model_url)
    tell(f"Breaking things for {plan.minutes:g} min with the seed {plan.seed}.")
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(stand, history, model))
        asking = [group.create_task(clients.ask_until(stop, _PAUSE_S)) for _ in range(plan.clients)]
        breaking = group.create_task(nemesis.break_until(stop, plan.every_s))
        await asyncio.sleep(plan.minutes * 60)
        stop.set()
        await breaking
        tell("No more faults. Waiting for what is under way.")
        await asyncio.wait(asking)
        watch.cancel()
    history.requests, history.faults = clients.seen, nemesis.done
    await _all_well(stand)
    history.left = await _left_when_idle(stand)
    await model.gather()
    await _read_runs(stand, history, model)
    history.left += await _left_at_the_end(stand)
    return history


class _ModelCalls:
    """When each call of the model was under way; gathered as it goes, for the model forgets."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/_control/requests"
        self._calls: dict[str, dict[int, tuple[int, int]]] = {}

    async def gather(self) -> None:
        async with httpx.AsyncClient(timeout=30) as http:
            answer = await http.get(self._url, params={"marker": "chaos-", "find": MARKER})
        for view in answer.json():
            if view["path"] == "/v1/messages" and view["body"]:
                span = (view["received_at_ns"], view["ended_at_ns"] or 2**62)
                self._calls.setdefault(view["body"], {})[view["n"]] = span

    def of(self, marker: str) -> tuple[int, float]:
        """How many there were, and the longest time (s) for which two were under way."""
        spans = sorted(self._calls.get(marker, {}).values())
        overlaps = [min(a[1], b[1]) - b[0] for a, b in pairwise(spans)]
        return len(spans), max(0, *overlaps, 0) / 1e9


async def _watch(stand: Stand, history: History, model: _ModelCalls) -> None:
    """Count the time in which no API is ready, and gather the model's calls."""
    looks = 0
    async with httpx.AsyncClient(timeout=2) as http:
        while True:
            await asyncio.sleep(_WATCH_S)
            if not any([await _is_ready(http, url) for url in stand.urls]):
                history.unready_s += _WATCH_S
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


async def _left_when_idle(stand: Stand) -> list[str]:
    """What still holds a run when nobody asks any more: after a while, nothing."""
    left: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(_IDLE_S), stand.redis() as redis:
            while left := await _names(redis, _LEFTOVERS):
                await asyncio.sleep(_POLL_S)
    return left


async def _left_at_the_end(stand: Stand) -> list[str]:
    """End APIs and workers in order; what is there afterwards should not be."""
    left: list[str] = []
    for part in (*stand.apis, *stand.workers):
        part.send(signal.SIGTERM)
    for part in (*stand.apis, *stand.workers):
        code = await part.ended()
        if code not in {0, -signal.SIGTERM}:  # uvicorn, once it has ended in order, raises the signal again
            left.append(f"{part.name} exited with {code}")
    async with stand.redis() as redis:
        left += await _names(redis, ("backline:worker:*", *_LEFTOVERS))
        left += [f"{name} has no end" for name in await _immortal(redis)]
    left += [f"process {process.pid} {process.name()}" for process in stand.agents_processes()]
    left += [f"directory {path}" for path in stand.root.glob("data*/scratch/*")]
    return left


async def _names(redis: Redis, patterns: tuple[str, ...]) -> list[str]:
    found = [name.decode() for pattern in patterns async for name in redis.scan_iter(pattern, count=1000)]
    return [name for name in found if not name.endswith(_BESIDE_QUEUES)]


async def _immortal(redis: Redis) -> list[str]:
    names = [name async for name in redis.scan_iter("*", count=1000)]
    mark = keys.DATA_MARK.encode()
    return [name.decode() for name in names if name != mark and await redis.pttl(name) == -1]


async def _read_runs(stand: Stand, history: History, model: _ModelCalls) -> None:
    """Ask an API for every run and its log."""
    effects = Counter(_lines(stand.agent / "effects.log"))
    async with httpx.AsyncClient(base_url=stand.urls[0], timeout=60) as http:
        place = ""
        while True:
            page = (
                await http.get("/v1/runs", params={"limit": 100, "after": place} if place else {"limit": 100})
            ).json()
            for run in page["data"]:
                events = await _log_of(http, run["id"]) if run["ended_at"] else []
                history.runs.append(_ended(run, events, model, effects))
            if not page["has_more"]:
                break
            place = page["next"]
        total = (await http.get("/stats")).json()["total"]
        history.counted_output_tokens = total["output_tokens"]


def _ended(
    run: dict[str, Any], events: list[dict[str, Any]], model: _ModelCalls, effects: Counter[str]
) -> Ended:
    marker = run["request_id"] or ""
    calls, overlap_s = model.of(marker)
    ends = [event for event in events if event["type"] == "ended"]
    texts = [event["text"] for event in events if event["type"] == "text"]
    return Ended(
        id=run["id"],
        marker=marker,
        state=run["state"],
        attempts=run["attempts"],
        numbers=numbers_of("".join(texts)),
        event_numbers=[event["n"] for event in events],
        hidden=(events[-1]["n"] if events else 0) - len(events),
        ends=len(ends),
        output_tokens=(run["usage"] or {}).get("output_tokens", 0),
        error=(run["error"] or {}).get("kind", ""),
        model_calls=calls,
        overlap_s=overlap_s,
        effects=effects[marker],
    )


async def _log_of(http: httpx.AsyncClient, run_id: str) -> list[dict[str, Any]]:
    answer = await http.get(f"/v1/runs/{run_id}/events", params={"format": "run"})
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [msgspec.json.decode(line) for line in lines]


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []
