from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from arq.connections import ArqRedis

from shared import redis_keys as keys
from shared.redis import connect
from shared.run_store import RunStore
from shared.webhooks import redis_keys as webhook_keys
from tests.unit.support import Valkey

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_LOOPS_OF = {
    "test_processes_leave_nothing.py": ("asyncio", "uvloop"),
    "test_connections_are_made_with_patience.py": ("asyncio", "uvloop"),
    "test_tail_has_no_gap.py": ("uvloop",),
    "test_workers_take_turns.py": ("uvloop",),
}
"""What takes sockets and pipes into its own hands is tested on production's loop."""


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {name: _LOOPS[name] for name in _LOOPS_OF.get(item.path.name, ("asyncio",))}


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """A server for the whole session; `redis` empties it before each test."""
    with tempfile.TemporaryDirectory(prefix="backline-unit-") as directory:
        server = Valkey(Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def durable_valkey() -> Iterator[Valkey]:
    """A server of the test's own, with an append-only file, to be restarted."""
    with tempfile.TemporaryDirectory(prefix="backline-unit-", ignore_cleanup_errors=True) as directory:
        server = Valkey(Path(directory), is_durable=True)
        server.start()
        yield server
        server.kill()


@pytest.fixture
async def redis(valkey: Valkey) -> AsyncIterator[ArqRedis]:
    """An empty server. Afterwards all but queues, keys, webhooks and the mark must have a time to live."""
    client = connect(valkey.url)
    await client.flushall()
    yield client
    names = [name async for name in client.scan_iter() if not name.startswith(b"backline:queue:")]
    kept = {keys.KEYS, keys.KEY_HASHES, keys.DATA_MARK}
    names = [name for name in names if name.decode() not in kept]
    names = [name for name in names if not name.startswith(webhook_keys.records("").encode())]
    immortal = [name for name in names if await client.pttl(name) == -1]
    await client.aclose()
    assert not immortal, "keys without a time to live"


@pytest.fixture
def store(redis: ArqRedis) -> RunStore:
    return RunStore(redis, retention_s=60)
