"""What goes on over time: samples in two bounded rings, an hour in steps of 10 s and a day in steps of 60 s.

One API process at a time takes the samples. Counters in a sample are totals so far, so that a rate over any
time is a difference, and a sample that nobody took costs nothing but detail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.registry import Registry
from shared.scripts import Scripts
from shared.usage import UsageStore

STEP_S: Final = 10
LONG_STEP_S: Final = 60
_LENGTHS: Final = {STEP_S: 360, LONG_STEP_S: 1440}
_SLACK = 2
"""How much longer than its span a ring lives when nobody adds to it."""
_TURN_MS = 25_000
_MOST_FIRST_TOKENS = 5_000
_FIRST_TOKENS_TTL_MS = 3_600_000
_WINDOW_MS = 60_000
_MICRO = 1_000_000


class Sample(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A moment: `t` in ms by Redis's clock. From `ended` on, totals since the first run.

    Times to the first token are those of runs that said it in the last minute; `None` when there was none.
    """

    t: int = 0
    queued: int = 0
    oldest_ms: int = 0
    running: int = 0
    slots: int = 0
    workers: int = 0
    first_token_p50_ms: int | None = None
    first_token_p95_ms: int | None = None
    ended: int = 0
    failed: int = 0
    output_tokens: int = 0
    micro_usd: int = 0


class Waiting(NamedTuple):
    """What waits in a queue: runs, how long the oldest has (ms), and for how long nothing is started (ms)."""

    runs: int
    oldest_ms: int
    paused_ms: int


class SeriesStore:
    """The rings in Redis. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._usage = UsageStore(redis)

    async def is_my_turn(self, who: str) -> bool:
        """Take or keep the right to sample, for a little more than two samples."""
        return bool(await self._scripts("sampler_turn", [keys.SAMPLER], [who, _TURN_MS]))

    async def look(self, known: Registry) -> Sample:
        """The moment as it is now."""
        now_ms, waiting = await self.waiting(queues_of(known))
        first = await self._first_tokens(now_ms - _WINDOW_MS)
        total = await self._usage.total()
        return Sample(
            t=now_ms,
            queued=sum(queue.runs for queue in waiting),
            oldest_ms=max((queue.oldest_ms for queue in waiting), default=0),
            running=sum(worker.busy for worker in known.workers),
            slots=sum(worker.slots for worker in known.workers),
            workers=len(known.workers),
            first_token_p50_ms=quantile(first, 0.5),
            first_token_p95_ms=quantile(first, 0.95),
            ended=total.requests,
            failed=total.failed,
            output_tokens=total.output_tokens,
            micro_usd=round(total.cost_usd * _MICRO),
        )

    async def add(self, sample: Sample) -> None:
        """Put a sample into the short ring, and once a minute what the last minute held into the long one."""
        last = await self._newest(LONG_STEP_S, 1)
        is_due = not last or sample.t - last[0].t >= (LONG_STEP_S - STEP_S / 2) * 1000
        minute = [sample, *(await self._newest(STEP_S, LONG_STEP_S // STEP_S - 1) if is_due else ())]
        async with self._redis.pipeline(transaction=False) as pipe:
            for step_s, each in [(STEP_S, sample), *([(LONG_STEP_S, _peaks(minute))] if is_due else [])]:
                data = {b"s": msgspec.msgpack.encode(each)}
                pipe.xadd(keys.series(step_s), data, maxlen=_LENGTHS[step_s], approximate=False)  # type: ignore[arg-type]
                pipe.pexpire(keys.series(step_s), _SLACK * step_s * _LENGTHS[step_s] * 1000)
            await pipe.execute()

    async def waiting(self, queues: Sequence[str]) -> tuple[int, list[Waiting]]:
        """Redis's time (ms), and what waits in each of these queues."""
        now_ms, *figures = await self._scripts("queue_look", queues, [])
        return now_ms, [Waiting(*figures[at : at + 3]) for at in range(0, len(figures), 3)]

    async def read(self, step_s: int, since_ms: int = 0) -> list[Sample]:
        """The samples of a ring after `since_ms`, the oldest first."""
        found: Any = await self._redis.xrange(
            keys.series(step_s), min=f"({since_ms}-9999" if since_ms else "-"
        )
        return _decoded(found)

    async def first_since(self, since_ms: int) -> Sample | None:
        """The oldest sample of the short ring after `since_ms`; `None` when there is none."""
        found: Any = await self._redis.xrange(keys.series(STEP_S), min=str(max(0, since_ms)), count=1)
        return next(iter(_decoded(found)), None)

    async def note_first_token(self, after_ms: int) -> None:
        """Keep how long a run took to its first output."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xadd(keys.FIRST_TOKENS, {b"ms": after_ms}, maxlen=_MOST_FIRST_TOKENS)
            pipe.pexpire(keys.FIRST_TOKENS, _FIRST_TOKENS_TTL_MS)
            await pipe.execute()

    async def _first_tokens(self, since_ms: int) -> list[int]:
        found: Any = await self._redis.xrange(keys.FIRST_TOKENS, min=str(max(0, since_ms)))
        return [int(fields[b"ms"]) for _, fields in found]

    async def _newest(self, step_s: int, count: int) -> list[Sample]:
        found: Any = await self._redis.xrevrange(keys.series(step_s), count=count)
        return _decoded(found)


def queues_of(known: Registry) -> list[str]:
    """The queues that any live worker or known agent could have runs in."""
    places = {*known.agents, *known.served}
    places |= {keys.place("", project) for worker in known.workers for project in worker.projects}
    return [name for place in sorted(places) for name in (keys.queue(place), keys.batch_queue(place))]


def quantile(values: Sequence[int], part: float) -> int | None:
    """The value below which `part` of the values lie (nearest rank); `None` of none."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else None


def _peaks(samples: Sequence[Sample]) -> Sample:
    """The newest sample with the most that stood in any of them."""
    most = {
        name: max((v for each in samples if (v := getattr(each, name)) is not None), default=None)
        for name in ("queued", "oldest_ms", "running", "first_token_p50_ms", "first_token_p95_ms")
    }
    return msgspec.structs.replace(samples[0], **most)


def _decoded(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Sample]:
    return [_decoder.decode(fields[b"s"]) for _, fields in entries]


_decoder = msgspec.msgpack.Decoder(Sample)
