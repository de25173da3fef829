"""The bare CLI: started as the worker starts it, and driven by as little as will do."""

from __future__ import annotations

import asyncio
import shutil
import time
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import msgspec
import psutil

from benchmarks.reply import CLI, Reply, Tap
from benchmarks.results import Cpu
from benchmarks.side import cpu_s
from benchmarks.stack import Stack
from shared.content import Turn
from worker.claude.home import Homes
from worker.claude.launch import Launcher
from worker.claude.transcript import transcript_of

_ANSWER_S = 60.0
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
        await self._ask(prompt, reply)

    async def resume(self, history: Sequence[Turn], prompt: str, reply: Reply) -> None:
        """The same with a transcript of `history`, which is on disk before the clock starts."""
        transcript = self._stack.directory / f"{uuid4()}.jsonl"
        transcript.write_bytes(transcript_of(history))
        try:
            await self._ask(prompt, reply, transcript)
        finally:
            transcript.unlink()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[OpenCli]:
        """A CLI that is kept for many turns; it is gone afterwards."""
        cli = _Cli(stays_open=True)
        async with self._spawned(cli) as process:
            yield OpenCli(cli, process)
            cli.close()
            await asyncio.wait([cli.exited], timeout=_EXIT_S)

    def cpu(self) -> Cpu:
        """CPU time so far."""
        return Cpu(
            cli_s=cpu_s(self._running), model_s=cpu_s([self._stack.model]), client_s=cpu_s([psutil.Process()])
        )

    async def quiet(self) -> None:
        """Nothing to wait for: `ask` returns after the exit."""

    async def _ask(self, prompt: str, reply: Reply, transcript: Path | None = None) -> None:
        cli = _Cli(stays_open=False)
        reply.began_ns = time.monotonic_ns()
        cli.say(prompt, reply)
        async with self._slots, self._spawned(cli, transcript):
            await cli.exited
        cli.require_whole()

    @asynccontextmanager
    async def _spawned(self, cli: _Cli, transcript: Path | None = None) -> AsyncIterator[psutil.Process]:
        home = self._homes.home("default", self._stack.agent.name)
        scratch = self._homes.scratch()
        try:
            launch = self._launcher.plan(self._stack.agent, home, scratch, transcript=transcript)
            transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: cli,
                *launch.argv,
                cwd=launch.cwd,
                env=launch.env,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            process = psutil.Process(transport.get_pid())
            self._running.add(process)
            try:
                yield process
            finally:
                self._running.discard(process)
                if not cli.exited.done() or cli.exited.cancelled():
                    process.kill()
                transport.close()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


class OpenCli:
    """A CLI between turns."""

    def __init__(self, cli: _Cli, process: psutil.Process) -> None:
        self._cli = cli
        self.process = process

    async def ask(self, prompt: str, reply: Reply) -> None:
        """Take one more turn."""
        reply.began_ns = time.monotonic_ns()
        answered = self._cli.say(prompt, reply)
        await asyncio.wait([answered, self._cli.exited], timeout=_ANSWER_S, return_when=FIRST_COMPLETED)
        self._cli.require_whole()


class _Cli(asyncio.SubprocessProtocol):
    """Speaks first, and says its prompt once the initialization is answered.

    At the result it closes, unless it stays open for another prompt.
    """

    def __init__(self, *, stays_open: bool) -> None:
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stays_open = stays_open
        self._is_ready = False
        self._prompt = ""
        self._reply = Reply()
        self._tap = Tap(CLI, self._reply)
        self._answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stdin: asyncio.WriteTransport | None = None

    def say(self, prompt: str, reply: Reply) -> asyncio.Future[None]:
        """Say `prompt` as soon as that can be; gives what resolves at the end of the reply."""
        self._prompt, self._reply, self._tap = prompt, reply, Tap(CLI, reply)
        self._answered = asyncio.get_running_loop().create_future()
        if self._is_ready:
            self._send()
        return self._answered

    def require_whole(self) -> None:
        """Raise `BenchmarkError` unless the reply is there, whole and good."""
        if self._tap.failure is not None:
            raise self._tap.failure
        self._reply.require_whole()

    def close(self) -> None:
        """Nothing more will be said."""
        if self._stdin is not None:
            self._stdin.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        process = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", process.get_pipe_transport(0))
        self._stdin.write(_INITIALIZE)

    def pipe_data_received(self, _fd: int, data: bytes) -> None:
        for line in self._tap.feed(data, time.monotonic_ns()):
            if line.startswith(_INITIALIZED):
                self._is_ready = True
                if self._prompt:
                    self._send()
        if self._reply.ended_ns:
            if not self._stays_open:
                self.close()
            if not self._answered.done():
                self._answered.set_result(None)

    def process_exited(self) -> None:
        if not self.exited.done():
            self.exited.set_result(None)

    def _send(self) -> None:
        assert self._stdin is not None  # noqa: S101 - it is ready, so it has been connected
        self._stdin.write(_user_frame(self._prompt))


def _user_frame(prompt: str) -> bytes:
    frame = {
        "type": "user",
        "message": {"role": "user", "content": [{"type": "text", "text": prompt}]},
        "parent_tool_use_id": None,
        "session_id": "",
        "client_composed": True,
    }
    return msgspec.json.encode(frame) + b"\n"
