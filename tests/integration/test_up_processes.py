"""Children, lifelines and the embedded Redis: nothing outlives its owner, however the owner ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from typing import TYPE_CHECKING

import psutil
import pytest
import redis.asyncio

from cli.child import Launch, child
from cli.crew import crew, obituary
from cli.embedded_redis import embedded_redis
from cli.errors import CommandError, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STUBBORN = (
    "import signal, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
)


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def eventually(fact: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


def launch(code: str, drain_s: float = 5.0) -> Launch:
    return Launch(name="test", argv=[sys.executable, "-c", code], drain_s=drain_s)


async def test_a_child_that_ignores_sigterm_is_killed_after_its_drain_time() -> None:
    lines: list[str] = []
    async with child(launch(STUBBORN, drain_s=0.2), on_line=lines.append) as running:
        await eventually(lambda: bool(lines))
    assert lines == ["on"]
    assert running.exited.result() == -signal.SIGKILL


async def test_what_a_child_left_behind_ends_with_it() -> None:
    lines: list[str] = []
    code = f"""
        import signal, subprocess, sys, time
        own = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
        print(own.pid, flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        time.sleep(60)
    """
    async with child(launch(textwrap.dedent(code)), on_line=lines.append) as running:
        await eventually(lambda: "on" in lines)
    assert running.exited.result() == 0
    await eventually(lambda: ended(int(lines[0])))


async def test_a_death_is_told_with_its_last_lines() -> None:
    async with crew() as mates:
        await mates.start(launch("print('first'); raise SystemExit('no more paper')"))
        with pytest.raises(
            CommandError, match=r"(?s)test process ended .* exit code 1.*first.*no more paper"
        ):
            await mates.pause(10)


async def test_a_second_request_ends_stubborn_children_at_once() -> None:
    started = time.monotonic()
    async with crew() as mates:
        lines: list[str] = []
        running = await mates.start(launch(STUBBORN, drain_s=50), lines.append)
        await eventually(lambda: bool(lines))
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Stopped):
            await mates.pause(10)
        asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), signal.SIGINT)
    assert time.monotonic() - started < 20
    assert "SIGKILL" in await obituary(running)


async def test_the_embedded_redis_keeps_its_data(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with embedded_redis(tmp_path) as embedded, redis.asyncio.Redis.from_url(embedded.url) as client:
            assert await client.incr("starts") == expected
            assert (await client.config_get("appendonly"))["appendonly"] == "yes"
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
        assert ended(embedded.server.pid)


async def test_two_owners_of_one_data_directory_get_a_server_each(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path) as one, embedded_redis(tmp_path) as two:
        assert one.url != two.url


async def test_a_long_path_gets_a_socket_elsewhere(tmp_path: Path) -> None:
    async with embedded_redis(tmp_path / ("long " * 20)) as embedded:
        assert str(tmp_path) not in embedded.url
    assert not os.path.exists(embedded.url.removeprefix("unix://"))  # noqa: ASYNC240, PTH110


OWNER = """
import asyncio, sys
from pathlib import Path
from cli.child import Launch
from cli.crew import crew
from cli.embedded_redis import embedded_redis
from cli.lifeline import python

async def main():
    async with crew() as mates, embedded_redis(Path(sys.argv[1])) as embedded:
        argv = python(mates.line, "run", "http.server", "--bind", "127.0.0.1", "0")
        one = await mates.start(Launch(name="x", argv=argv, pass_fds=(mates.line.read, embedded.hold)))
        print(embedded.server.pid, one.pid, flush=True)
        await mates.pause(60)

asyncio.run(main())
"""


async def test_nothing_outlives_an_owner_that_was_killed(tmp_path: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in (await owner.stdout.readline()).split()]
    assert len(pids) == 2
    owner.kill()
    await owner.wait()
    await eventually(lambda: all(map(ended, pids)))
    async with embedded_redis(tmp_path) as embedded, redis.asyncio.Redis.from_url(embedded.url) as client:
        assert await client.ping()
