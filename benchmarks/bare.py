"""The bare CLI: started as the worker starts it, and driven by as little as will do."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import cast

import msgspec
import psutil

from benchmarks.reply import CLI, Reply, Tap
from benchmarks.results import Cpu
from benchmarks.side import cpu_s
from benchmarks.stack import Stack
from worker.claude.home import Homes
from worker.claude.launch import Launch, Launcher

_EXIT_S = 10.0
_INITIALIZE = (
    msgspec.json.encode(
        {
            "type": "control_request",
            "request_id": "benchmark",
            "request": {"subtype": "initialize", "hooks": None},
        }
    )
    + b"\n"
)
_INITIALIZED = b'{"type":"control_response"'


class Bare:
    """Asks CLIs of its own, at most `slots` at a time. A slot is free again when its process has exited."""

    def __init__(self, stack: Stack, slots: int) -> None:
        self._stack = stack
        self._slots = asyncio.Semaphore(slots)
        self._launcher = Launcher(stack.cli, stack.settings, stack.environ)
        self._homes = Homes(stack.directory / "bare", Path("nowhere"))
        self._running: set[psutil.Process] = set()

    async def ask(self, prompt: str, reply: Reply) -> None:
        """Spawn a CLI, initialize it, give it one user frame, and read until it has exited."""
        reply.began_ns = time.monotonic_ns()
        async with self._slots:
            home = self._homes.home("default", self._stack.agent.name)
            scratch = self._homes.scratch()
            try:
                await self._run(self._launcher.plan(self._stack.agent, home, scratch), prompt, reply)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
        reply.require_whole()

    def cpu(self) -> Cpu:
        """CPU time so far."""
        return Cpu(
            cli_s=cpu_s(self._running), model_s=cpu_s([self._stack.model]), client_s=cpu_s([psutil.Process()])
        )

    async def quiet(self) -> None:
        """Nothing to wait for: `ask` returns after the exit."""

    async def _run(self, launch: Launch, prompt: str, reply: Reply) -> None:
        tap = Tap(CLI, reply)
        transport, cli = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Cli(tap, reply, prompt),
            *launch.argv,
            cwd=launch.cwd,
            env=launch.env,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        process = psutil.Process(transport.get_pid())
        self._running.add(process)
        try:
            await cli.exited
        finally:
            self._running.discard(process)
            if not cli.exited.done() or cli.exited.cancelled():
                process.kill()
            transport.close()
        if tap.failure is not None:
            raise tap.failure


class _Cli(asyncio.SubprocessProtocol):
    """Speaks first, answers the initialization's answer with the prompt, and closes at the result."""

    def __init__(self, tap: Tap, reply: Reply, prompt: str) -> None:
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tap = tap
        self._reply = reply
        self._prompt = prompt
        self._stdin: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        process = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", process.get_pipe_transport(0))
        self._stdin.write(_INITIALIZE)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        assert self._stdin is not None  # noqa: S101 - connection_made comes first
        for line in self._tap.feed(data, time.monotonic_ns()):
            if line.startswith(_INITIALIZED):
                self._stdin.write(_user_frame(self._prompt))
        if self._reply.ended_ns:
            self._stdin.close()

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)


def _user_frame(prompt: str) -> bytes:
    frame = {
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": prompt}]},
        "parent_tool_use_id": None,
        "session_id": "",
        "client_composed": True,
    }
    return msgspec.json.encode(frame) + b"\n"
