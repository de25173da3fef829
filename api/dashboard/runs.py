"""Runs: a live table whose filters stand in its address, and a page for each, told as it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, post
from litestar.params import Parameter, QueryParameter
from litestar.response import Stream

from api.access import READ, RUN
from api.answering import STREAM_HEADERS
from api.dashboard.page import HEADERS, go, page
from api.dashboard.run_story import told
from api.errors import ApiError
from api.principal import Principal
from api.run_objects import run_of
from api.run_routes import accepted, list_runs, visible_run
from api.runs import Runs
from shared.registry import CachedRegistry
from shared.run_index import RunIndex, RunRecord
from shared.runs import RunState

_PAGE = 50
_TICK_S = 2.0
_STREAM_S = 60.0
"""A stream ends after this long and the browser comes back: by then its key may be revoked."""
_Word = Annotated[str, Parameter(max_length=200)]
_State = Annotated[str, QueryParameter(name="state", max_length=20)]


@get("/runs", opt=READ)
async def runs_page(
    request: Request[Any, Any, Any],
    principal: Principal,
    run_index: RunIndex,
    registry: CachedRegistry,
    in_state: _State = "",
    agent: _Word = "",
    key: _Word = "",
    of_tenant: Annotated[str, QueryParameter(name="tenant", max_length=200)] = "",
    after: _Word = "",
) -> Response[str]:
    """Show runs, the newest first: one's own, or an administrator's all."""
    found = await list_runs.fn(
        principal=principal,
        run_index=run_index,
        in_state=in_state if in_state in set(RunState) else "",
        agent=agent,
        key=key,
        of_tenant=of_tenant or None,
        after=after,
        limit=_PAGE,
    )
    chosen = {"state": in_state, "agent": agent, "key": key, "tenant": of_tenant}
    return page(
        request,
        "runs.html",
        title="Runs",
        runs=found.data,
        states=[state.value for state in RunState],
        agents=sorted((await registry.look()).agents),
        chosen=chosen,
        older=urlencode({**{k: v for k, v in chosen.items() if v}, "after": found.next})
        if found.next
        else "",
    )


@get("/runs/{run_id:str}", opt=READ)
async def run_page(
    request: Request[Any, Any, Any], run_id: str, principal: Principal, run_index: RunIndex
) -> Response[str]:
    """Show a run; what was said in it only to its own tenant."""
    record = await visible_run(run_id, principal, run_index)
    is_own = record.tenant == principal.tenant
    return page(request, "run.html", title="Run", run=run_of(record), is_own=is_own)


@get("/runs/{run_id:str}/events", opt=READ)
async def run_events(
    request: Request[Any, Any, Any], run_id: str, principal: Principal, run_index: RunIndex, runs: Runs
) -> Stream:
    """Tell a run's events as they come, from behind the last one that the browser has."""
    record = await visible_run(run_id, principal, run_index)
    last = request.headers.get("last-event-id", "")
    after = int(last) if last.isascii() and last.isdecimal() else 0
    frames = _frames(runs, record, after, with_words=record.tenant == principal.tenant)
    return Stream(frames, media_type="text/event-stream", headers={**STREAM_HEADERS, **HEADERS})


@post("/runs/{run_id:str}/cancel", status_code=200, opt=RUN)
async def cancel_run_page(
    run_id: str, principal: Principal, run_index: RunIndex, runs: Runs
) -> Response[Any]:
    """Cancel a run."""
    record = await visible_run(run_id, principal, run_index)
    await runs.stop(run_id, record.agent)
    return go(f"/dashboard/runs/{run_id}")


async def _frames(runs: Runs, record: RunRecord, after: int, *, with_words: bool) -> AsyncIterator[bytes]:
    end = asyncio.get_running_loop().time() + _STREAM_S
    yield b"retry: 500\n\n"
    try:
        async with aclosing(runs.follow(accepted(record), tick_s=_TICK_S)) as batches:
            async for batch in batches:
                new = [each for each in batch if each.n > after]
                if new:
                    data = msgspec.json.encode(told(new, with_words=with_words))
                    yield b"id: %d\ndata: %s\n\n" % (new[-1].n, data)
                elif not batch:
                    yield b": keep-alive\n\n"
                if asyncio.get_running_loop().time() > end:
                    return
    except ApiError as error:
        yield b"event: lost\ndata: %s\n\n" % msgspec.json.encode(error.message)
        return
    yield b"event: over\ndata: {}\n\n"
