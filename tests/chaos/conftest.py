"""A stand that tests break and mend: two APIs, two workers, a Valkey with an append-only file."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from chaos.products import backline
from chaos.stand import Programs, Stand
from cli.chaos import programs
from cli.lifeline import lifeline
from tests.chaos.support import assert_idle


@pytest.fixture(scope="session")
def parts() -> Iterator[Programs]:
    with lifeline() as line:
        yield programs(line)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_stand(parts: Programs) -> AsyncIterator[Stand]:
    settings = {"warm": 0, "max_live": 0, "slots": 12, "upstream_retries": 0}
    with tempfile.TemporaryDirectory(prefix="bl-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        async with AsyncExitStack() as stack:
            stand = Stand(Path(directory), parts, backline(settings))
            await stand.start(stack, apis=2, workers=2)
            yield stand


@pytest_asyncio.fixture(loop_scope="module")
async def stand(shared_stand: Stand) -> AsyncIterator[Stand]:
    """The same, whole at the beginning of each test and idle at its end."""
    await shared_stand.ready(2)
    yield shared_stand
    await assert_idle(shared_stand)
    assert all(part.runs for part in shared_stand.parts)
