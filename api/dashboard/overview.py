"""The overview: what goes on now, over the last hour, over the last day, and what happened."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import msgspec
from litestar import Request, Response, get
from litestar.response import Stream

from api.access import ADMIN
from api.answering import STREAM_HEADERS
from api.dashboard.live import Live
from api.dashboard.page import HEADERS, page
from shared.series import LONG_STEP_S, STEP_S, Sample, SeriesStore


class Columns(msgspec.Struct, frozen=True, kw_only=True):
    """Samples as the plots want them, a column each. `t` is in seconds since the epoch."""

    t: list[float]
    queued: list[int]
    running: list[int]
    slots: list[int]
    first_token_p50_ms: list[int | None]
    first_token_p95_ms: list[int | None]
    tokens_per_s: list[float | None]
    errors_per_min: list[float | None]


@get("/", opt=ADMIN)
async def overview(request: Request[Any, Any, Any], live: Live) -> Response[str]:
    """Show what goes on."""
    return page(request, "overview.html", title="Overview", look=await live.look())


@get("/feed", opt=ADMIN)
async def feed(live: Live) -> Stream:
    """Tell what changes, as server-sent events."""
    return Stream(live.stream(), media_type="text/event-stream", headers={**STREAM_HEADERS, **HEADERS})


@get("/series", opt=ADMIN)
async def series(series_store: SeriesStore, span: Literal["hour", "day"] = "hour") -> Response[Columns]:
    """Give the plots' figures."""
    samples = await series_store.read(STEP_S if span == "hour" else LONG_STEP_S)
    return Response(columns_of(samples), headers=HEADERS)


def columns_of(samples: list[Sample]) -> Columns:
    """Samples as columns; a rate is what came since the sample before, and unknown where totals fell."""
    before: list[Sample | None] = [None, *(first for first, _ in pairwise(samples))]
    return Columns(
        t=[each.t / 1000 for each in samples],
        queued=[each.queued for each in samples],
        running=[each.running for each in samples],
        slots=[each.slots for each in samples],
        first_token_p50_ms=[each.first_token_p50_ms for each in samples],
        first_token_p95_ms=[each.first_token_p95_ms for each in samples],
        tokens_per_s=[_rate(b, a, "output_tokens", 1) for b, a in zip(before, samples, strict=True)],
        errors_per_min=[_rate(b, a, "failed", 60) for b, a in zip(before, samples, strict=True)],
    )


def _rate(before: Sample | None, after: Sample, name: str, per_s: float) -> float | None:
    if before is None or after.t <= before.t:
        return None
    grown = getattr(after, name) - getattr(before, name)
    return round(per_s * grown * 1000 / (after.t - before.t), 2) if grown >= 0 else None
