"""Batches of this API process: their store, and the coordinator that sees to them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from redis.asyncio import Redis

from api.openai.batches.execute import AnswerLine, executor
from api.runs import Runs
from shared.batches.coordinator import Coordinator
from shared.batches.drive import Parts
from shared.batches.store import BatchStore
from shared.blobs import Blobs
from shared.files import Files
from shared.keys import KeyStore
from shared.registry import CachedRegistry
from shared.settings import Settings
from shared.webhooks.outbox import Outbox

_FEWEST, _MOST = 2, 64


class Batches(msgspec.Struct, frozen=True):
    """What the routes are given; `endpoints` are those that lines can be for."""

    store: BatchStore
    coordinator: Coordinator
    endpoints: tuple[str, ...]


def batches_of(
    redis: Redis,
    runs: Runs,
    keys: KeyStore,
    registry: CachedRegistry,
    files: Files,
    blobs: Blobs,
    settings: Settings,
    endpoints: Mapping[str, AnswerLine],
) -> Batches:
    """Put batches together. A further endpoint is one more of `endpoints`."""

    async def capacity() -> int:
        """Twice the slots there are, so that none waits for a line: within bounds."""
        slots = sum(worker.slots for worker in (await registry.look()).workers)
        return min(max(2 * slots, _FEWEST), _MOST)

    store = BatchStore(redis, Outbox(settings), retention_s=settings.retention_s)
    parts = Parts(
        store=store,
        files=files,
        blobs=blobs,
        endpoints={path: executor(answer, runs, keys, settings) for path, answer in endpoints.items()},
        capacity=capacity,
        stop=runs.stop,
        has_begun=runs.is_known,
        most_line_bytes=settings.max_body_bytes,
    )
    return Batches(store, Coordinator(parts), tuple(endpoints))
