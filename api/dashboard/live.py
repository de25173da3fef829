"""What changes on open pages: one look every two seconds for all of them, and none when no page is open."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.happenings import Happening, Happenings
from shared.registry import CachedRegistry
from shared.series import SeriesStore
from shared.usage import UsageStore, summed

_LOOK_S = 2.0
_KEEPALIVE_S = 15.0
_STREAM_S = 60.0
"""A stream ends after this long, so that a browser whose key is revoked is asked for it again."""
_HOUR_MS, _MINUTE_MS = 3_600_000, 60_000
_SHOWN = 40

_log = structlog.get_logger(__name__)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What stands at the top of the overview. Rates are of the last minute, errors of the last hour."""

    queued: int = 0
    oldest_s: float = 0.0
    running: int = 0
    slots: int = 0
    workers: int = 0
    draining: int = 0
    first_token_p50_ms: int | None = None
    first_token_p95_ms: int | None = None
    tokens_per_s: float = 0.0
    errors: int = 0
    ended: int = 0
    usd_today: float = 0.0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """All that open pages are told; `topics` has for each kind of page a word that changes with it."""

    figures: Figures = Figures()
    happenings: list[Happening] = []
    topics: dict[str, str] = {}
    is_redis_away: bool = False


class Live:
    """The one feed of this process; `run` must be running."""

    def __init__(
        self, series: SeriesStore, happenings: Happenings, registry: CachedRegistry, usage: UsageStore
    ) -> None:
        self._series = series
        self._happenings = happenings
        self._registry = registry
        self._usage = usage
        self._readers = 0
        self._is_wanted = asyncio.Event()
        self._last = b""
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Look as long as somebody reads, until cancelled."""
        while True:
            await self._is_wanted.wait()
            await self._refresh()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> Look:
        """What there is to tell now; raises `redis.RedisError`."""
        known = await self._registry.look()
        now = await self._series.look(known)
        today = datetime.now(UTC).date()
        minute, hour, spent, happenings = (
            await self._series.first_since(now.t - _MINUTE_MS) or now,
            await self._series.first_since(now.t - _HOUR_MS) or now,
            summed(await self._usage.rows(today, today), ["day"]),
            await self._happenings.newest(_SHOWN),
        )
        figures = Figures(
            queued=now.queued,
            oldest_s=round(now.oldest_ms / 1000, 1) if now.queued else 0.0,
            running=now.running,
            slots=now.slots,
            workers=now.workers,
            draining=sum(not worker.agents for worker in known.workers),
            first_token_p50_ms=now.first_token_p50_ms,
            first_token_p95_ms=now.first_token_p95_ms,
            tokens_per_s=round(
                (now.output_tokens - minute.output_tokens) / max(1.0, (now.t - minute.t) / 1000), 1
            ),
            errors=max(0, now.failed - hour.failed),
            ended=max(0, now.ended - hour.ended),
            usd_today=round(spent[0].cost_usd, 6) if spent else 0.0,
        )
        topics = {
            "workers": _digest(msgspec.msgpack.encode(known)),
            "runs": _digest(f"{now.ended} {now.queued} {now.running}".encode()),
        }
        return Look(figures=figures, happenings=happenings, topics=topics)

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events with each `Look` that differs from the one before, for a while."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _STREAM_S
        told = b""
        with self._reading():
            yield b"retry: 1000\n\n"
            while loop.time() < end:
                changed = self._changed
                if self._last and self._last != told:
                    told = self._last
                    yield b"event: look\ndata: %s\n\n" % told
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(_KEEPALIVE_S):
                        await changed.wait()
                        continue
                yield b": keep-alive\n\n"

    async def _refresh(self) -> None:
        try:
            look = await self.look()
        except (RedisError, OSError) as error:
            _log.warning("look_failed", error=str(error))
            look = Look(is_redis_away=True)
        data = msgspec.json.encode(look)
        if data != self._last:
            self._last = data
            self._changed.set()
            self._changed = asyncio.Event()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._readers += 1
        self._is_wanted.set()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._is_wanted.clear()
                self._last = b""


def _digest(data: bytes) -> str:
    return f"{zlib.crc32(data):08x}"
