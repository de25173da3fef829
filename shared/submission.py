"""Accepting a run: what the scripts `submit` and `replay` are given, and what they answer. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from arq.jobs import serialize_job

from shared import redis_keys as keys
from shared.accounts import NAMES as LIMITS
from shared.accounts import LimitReachedError, Standing, decode_standing, reservation
from shared.keys import Limits
from shared.repeats import Found, KeyReusedError, Repeat, RunGoneError
from shared.run_events import RunEvent, RunStarted, encode_event
from shared.run_index import about
from shared.runs import TIERS, RunRequest, encode_request
from shared.scripts import Value

JOB_FUNCTION = "execute"
"""The name under which workers register the function that ARQ calls with a run id."""

_FOUND, _QUEUE_FULL, _BEYOND_LIMIT, _KEY_REUSED, _GONE = 2, -1, -2, -3, -4

Call = tuple[list[str], list[Value]]
"""Names and arguments of a script."""


class QueueFullError(Exception):
    """An agent's queue holds as many waiting runs as the operator allows.

    `drain_s` is how long it will take to start a tenth of them, by how it went of late; `None`: unknown.
    """

    def __init__(self, message: str, drain_s: float | None) -> None:
        super().__init__(message)
        self.drain_s = drain_s


class Submitted(msgspec.Struct, frozen=True):
    """A run that can no longer be lost. `created_ms` is Redis's clock, `waiting` the runs before it.

    `standing` is how its API key stands now, if it has one. `found` is the run that the same request started
    when it was made before: then this one started none.
    """

    created_ms: int
    waiting: int
    standing: Standing | None = None
    found: Found | None = None


def submission(
    run_id: str,
    request: RunRequest,
    *,
    queue_limit: int,
    ttl_ms: int,
    keep_ms: int | None,
    limits: Limits,
    repeat: Repeat | None,
) -> Call:
    """The call of `submit` that queues a run; `keep_ms` is how long it is kept, if that is not the usual."""
    names = [
        keys.run(run_id),
        keys.job(run_id),
        request.queue,
        keys.prefix(request.prefix),
        keys.runs(request.tenant),
        keys.runs(),
        repeat.name if repeat else "",
    ]
    job = serialize_job(JOB_FUNCTION, (run_id,), {}, None, 0, serializer=msgspec.msgpack.encode)
    args: list[Value] = [run_id, encode_request(request), job, queue_limit, ttl_ms]
    args += [keys.doorbell(request.place), keys.worker(""), keys.own_queue(""), keys.doorbell("@")]
    args += [keys.AFFINITY_MS, request.tenant, request.agent, "" if keep_ms is None else keep_ms]
    args += [keys.usage(""), keys.run(""), ttl_ms]
    args += [repeat.kind, repeat.digest, repeat.ttl_ms] if repeat else ["", "", 0]
    args += [request.conversation, TIERS.index(request.tier)]
    args += [*reservation(request, limits), about(request), keys.MOST_RUNS]
    return names, args


def replayed(
    run_id: str, request: RunRequest, events: Sequence[RunEvent], *, keep_ms: int, limits: Limits
) -> Call:
    """The call of `replay` that accepts a run which `events` answer; of `limits` those on requests hold."""
    asked = {name: getattr(limits, name) for name in LIMITS if name.startswith("requests_")}
    _, account, _, *bounds = reservation(request, Limits(**asked))
    said = [encode_event(event) for event in (RunStarted(worker="cache"), *events)]
    names = [keys.run(run_id), keys.events(run_id), keys.runs(request.tenant), keys.runs()]
    args: list[Value] = [run_id, keep_ms, request.tenant, request.agent, keys.usage(""), keys.run("")]
    args += [request.key, account, about(request), keys.MOST_RUNS, len(bounds), *bounds, *said]
    return names, args


def read_answer(answer: Sequence[Any], agent: str) -> Submitted:
    """What became of it; raises `KeyReusedError`, `RunGoneError`, `QueueFullError`, `LimitReachedError`."""
    status, created_ms, waiting, *rest = answer
    if status == _KEY_REUSED:
        raise KeyReusedError
    if status == _GONE:
        raise RunGoneError
    if status == _FOUND:
        found_id, found_ms, found_agent, conversation = rest
        found = Found(found_id.decode(), found_ms, found_agent.decode(), conversation.decode())
        return Submitted(created_ms=found_ms, waiting=0, found=found)
    if status == _QUEUE_FULL:
        drain_s = rest[0] / 1000 if rest[0] >= 0 else None
        raise QueueFullError(f"{waiting} runs of {agent!r} are waiting.", drain_s)
    standing = decode_standing(rest[1], created_ms) if rest else None
    if status == _BEYOND_LIMIT and standing is not None:
        raise LimitReachedError(rest[0].decode(), standing)
    return Submitted(created_ms=created_ms, waiting=waiting, standing=standing)
