"""Everything that is measured, on loopback, in a temporary directory: started and ended by a scope."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import msgspec
import psutil

from benchmarks.reply import BenchmarkError
from benchmarks.results import Peak
from cli.child import Child, Launch, child
from cli.embedded_redis import embedded_redis
from cli.lifeline import Lifeline, lifeline, python
from cli.probe import get
from shared.agents import Agent
from shared.settings import Settings
from shared.settings_sources import to_environment
from worker.claude.launch import find_cli

_READY_S = 30.0
_DRAIN_S = 5.0
_POLL_S = 0.05
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class Stack(msgspec.Struct, frozen=True, kw_only=True):
    """A running gateway, and what it takes to ask its CLI without it."""

    directory: Path
    settings: Settings
    environ: dict[str, str]
    """The worker's environment, without its settings."""
    agent: Agent
    cli: Path
    port: int
    model: psutil.Process
    redis: psutil.Process
    api: psutil.Process
    worker: psutil.Process

    def peak(self) -> Peak:
        """The memory of our processes at its highest so far."""
        return Peak(api_bytes=_peak_bytes(self.api), worker_bytes=_peak_bytes(self.worker))


@asynccontextmanager
async def running_stack(
    *, slots: int, warm: int = 0, max_live: int = 0, auth: Literal["auto", "on", "off"] = "auto"
) -> AsyncIterator[Stack]:
    """Start the scripted model, Redis, one API and one worker with `slots`; all are gone afterwards.

    The worker keeps no process, spare or live, unless it is told how many. Raises `BenchmarkError` when
    something does not become ready.
    """
    async with AsyncExitStack() as scope:
        directory = Path(scope.enter_context(TemporaryDirectory(prefix="backline-bench-")))
        agent = _make_agent(directory / "bench")
        environ = _clean_environ(directory)
        # Held by nobody else: whatever ends this process ends its servers too.
        line = scope.enter_context(lifeline())
        model, model_url = await _start_model(scope, _launch(line, "scripted_model", directory, environ))
        environ |= {"ANTHROPIC_BASE_URL": model_url, "ANTHROPIC_API_KEY": "sk-benchmark"}
        redis = await scope.enter_async_context(embedded_redis(directory / "data"))
        settings = Settings(
            redis_url=redis.url,
            data_dir=directory / "data",
            port=_free_port(),
            agents=(str(agent.directory),),
            slots=slots,
            warm=warm,
            max_live=max_live,
            auth=auth,
            drain_timeout_s=1.0,
        )
        env = {**environ, **to_environment(settings)}
        api = await scope.enter_async_context(child(_launch(line, "cli.main api", directory, env)))
        worker = await scope.enter_async_context(child(_launch(line, "cli.main worker", directory, env)))
        await _ready(f"http://{settings.host}:{settings.port}/ready", (api, worker))
        yield Stack(
            directory=directory,
            settings=settings,
            environ=environ,
            agent=agent,
            cli=find_cli(settings),
            port=settings.port,
            model=psutil.Process(model.pid),
            redis=psutil.Process(redis.server.pid),
            api=psutil.Process(api.pid),
            worker=psutil.Process(worker.pid),
        )


def _make_agent(directory: Path) -> Agent:
    directory.mkdir()
    (directory / "CLAUDE.md").write_text("# Says what the benchmark asks for\n", "utf-8")
    return Agent(name=directory.name, directory=directory)


def _clean_environ(home: Path) -> dict[str, str]:
    """Nothing of the operator's own settings or credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "HOME": str(home), "TMPDIR": str(home)}


def _launch(line: Lifeline, command: str, cwd: Path, env: dict[str, str]) -> Launch:
    """A module with its arguments, run as `backline up` runs it."""
    argv = python(line, "run", *command.split())
    return Launch(name=command, argv=argv, cwd=cwd, env=env, pass_fds=(line.read,), drain_s=_DRAIN_S)


async def _start_model(scope: AsyncExitStack, launch: Launch) -> tuple[Child, str]:
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_line(line: str) -> None:
        if not first.done():
            first.set_result(line)

    model = await scope.enter_async_context(child(launch, on_line=on_line))
    try:
        async with asyncio.timeout(_READY_S):
            return model, str(msgspec.json.decode(await first)["url"])
    except (TimeoutError, msgspec.DecodeError) as error:
        raise BenchmarkError(f"The scripted model did not start: {await model.last_lines()}") from error


async def _ready(url: str, parts: Sequence[Child]) -> None:
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + _READY_S
    while clock() < give_up_at:
        if (await get(url)).status == 200:
            return
        ended = [part for part in parts if part.exited.done()]
        if ended:
            break
        await asyncio.sleep(_POLL_S)
    said = {part.name: (await part.last_lines())[-3:] for part in parts}
    raise BenchmarkError(f"The gateway did not become ready: {said}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _peak_bytes(process: psutil.Process) -> int:
    """The kernel's own high-water mark where it keeps one (Linux), else what it is now."""
    status = Path(f"/proc/{process.pid}/status")
    found = _PEAK.search(status.read_text("utf-8")) if status.is_file() else None
    return 1024 * int(found[1]) if found else int(process.memory_info().rss)
