"""One Claude CLI process: frames in, lines out, and an end that leaves nothing behind.

The SDK's client is not used on this path. Measured per streamed token it costs the reading process
about twice a bare pipe with a typed decoder, it hands the whole environment of its parent to the CLI, and
it hides frames that history seeding and warm processes need. `benchmarks/` has the figures.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from worker.claude.lines import decode_control
from worker.process_tree import end_tree

MAX_LINE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 256 * 1024
_EXIT_S = 5.0
_STDERR_LINES = 40
_STDERR_LINE_BYTES = 2_000
_CONTROL_PREFIX = b'{"type":"control_response"'


class CliNotStartedError(Exception):
    """The CLI could not be started, or did not answer its first request."""


class LineTooLongError(Exception):
    """The CLI wrote a line beyond `MAX_LINE_BYTES`."""


class ClaudeProcess:
    """A running CLI. Its owner reads `lines()`, from one task, and calls `end()` whatever happens."""

    def __init__(self, process: asyncio.subprocess.Process, marker: str) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("The process needs three pipes.")
        self._process = process
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._marker = marker
        self._request_ids = count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._stderr_tail: deque[str] = deque(maxlen=_STDERR_LINES)
        self._stderr_task = asyncio.create_task(self._read_stderr())

    @classmethod
    async def start(
        cls, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], marker: str
    ) -> ClaudeProcess:
        """Spawn the CLI; raises `CliNotStartedError` when the operating system will not.

        `marker` is a value in `env` that no other process has: it finds descendants that left the tree.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=cwd,
                env=dict(env),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, os.getpid()),
                limit=2 * _CHUNK_BYTES,
            )
        except OSError as error:
            raise CliNotStartedError(f"The Claude CLI could not be started: {error}") from error
        return cls(process, marker)

    @property
    def pid(self) -> int:
        """The CLI's process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it exited; negative is a signal; `None` while it runs."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        """The last lines the CLI wrote on standard error, bounded in number and length."""
        return "\n".join(self._stderr_tail)

    async def send(self, frame: Mapping[str, Any]) -> None:
        """Write one frame; a process that is gone is noticed by its reader, not here."""
        with suppress(ConnectionError, RuntimeError):
            self._stdin.write(msgspec.json.encode(frame) + b"\n")
            await self._stdin.drain()

    async def request(self, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Make a control request and give its answer, while another task reads `lines()`.

        Raises `TimeoutError`, or `CliNotStartedError` with the CLI's words when it refuses or exits.
        """
        request_id = f"backline-{next(self._request_ids)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            await self.send({"type": "control_request", "request_id": request_id, "request": request})
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._answers.pop(request_id, None)

    async def interrupt(self) -> None:
        """Ask the CLI to end its turn; the turn's `result` line follows within some 10 ms (CLI 2.1)."""
        await self.send(
            {
                "type": "control_request",
                "request_id": f"backline-{next(self._request_ids)}",
                "request": {"subtype": "interrupt"},
            }
        )

    async def lines(self) -> AsyncIterator[list[bytes]]:
        """Yield whole lines as they come, all that one read gave at a time, until the CLI closes its output.

        Control answers are handed to whoever asked. Raises `LineTooLongError`.
        """
        rest = b""
        try:
            while chunk := await self._stdout.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise LineTooLongError(f"The CLI wrote a line of over {MAX_LINE_BYTES} bytes.")
                spoken = [line for line in lines if line and not self._answered(line)]
                if spoken:
                    yield spoken
        finally:
            self._fail_requests()

    def close_input(self) -> None:
        """Tell the CLI that no more will come: it ends after its turn."""
        self._stdin.close()

    async def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for the exit; `True` when it has exited."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        return self._process.returncode is not None

    async def end(self, *, grace_s: float = 0.0, sweep: bool = True) -> None:
        """End the CLI and all it started. Safe to call twice.

        With `grace_s` the CLI is first let go by itself. `sweep` looks for descendants of its tools too,
        which a clean exit of a run that used none does not need.
        """
        self.close_input()
        has_exited = grace_s > 0 and await self.wait(grace_s)
        if sweep or not has_exited:
            await end_tree(self._process.pid, self._marker)
        await self.wait(_EXIT_S)
        with suppress(TimeoutError):  # cancels the reader when somebody still holds the pipe
            async with asyncio.timeout(_EXIT_S):
                await self._stderr_task

    def _answered(self, line: bytes) -> bool:
        if not line.startswith(_CONTROL_PREFIX):
            return False
        try:
            answer = decode_control.decode(line).response
        except msgspec.MsgspecError:
            return False
        waiting = self._answers.get(answer.request_id)
        if waiting is not None and not waiting.done():
            if answer.subtype == "error":
                waiting.set_exception(CliNotStartedError(answer.error or "The CLI refused a request."))
            else:
                waiting.set_result(answer.response or {})
        return True

    def _fail_requests(self) -> None:
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(CliNotStartedError("The Claude CLI exited before it answered."))

    async def _read_stderr(self) -> None:
        rest = b""
        while chunk := await self._stderr.read(8192):
            *lines, rest = (rest + chunk).split(b"\n")
            rest = rest[-_STDERR_LINE_BYTES:]
            for line in lines:
                self._stderr_tail.append(line[:_STDERR_LINE_BYTES].decode("utf-8", "replace"))
        if rest:
            self._stderr_tail.append(rest.decode("utf-8", "replace"))


def _find_prctl() -> Callable[..., int] | None:
    if sys.platform != "linux":
        return None
    return ctypes.CDLL(None, use_errno=True).prctl


_PR_SET_PDEATHSIG = 1
_prctl = _find_prctl()


def _die_with_parent(parent: int) -> None:
    """In the child, before exec: a worker that is killed takes its CLIs with it (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)
