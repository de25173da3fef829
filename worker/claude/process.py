"""One Claude CLI process: frames in, lines out, and an end that leaves nothing behind.

The SDK's client is not used on this path: it wakes a task and builds objects for every token, hands the
whole environment of its parent to the CLI, and hides frames that history seeding and warm processes need.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import structlog

from worker.claude.lines import decode_control
from worker.process_tree import end_tree

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A line that mirrors the client's message holds all its images and files."""
_EXIT_S = 5.0
_STDERR_LINES = 40
_STDERR_LINE_BYTES = 2_000
_CONTROL_PREFIX = b'{"type":"control_response"'

_log = structlog.get_logger(__name__)

OnLines = Callable[[list[bytes]], None]
OnClose = Callable[[str | None], None]


class CliNotStartedError(Exception):
    """The CLI could not be started, or did not answer its first request."""


class ClaudeProcess:
    """A running CLI. Whoever starts it calls `end()` whatever happens.

    Lines are pushed, not awaited: `on_lines` gets what one read gave, and `on_close` is called once, when
    the CLI has closed its output or wrote a line that is too long. A task to be woken for every token would
    cost as much as all that is done with it.
    """

    def __init__(self, marker: str, on_lines: OnLines, on_close: OnClose, *, wrappers: int = 0) -> None:
        self._marker = marker
        self._wrappers = wrappers
        self._cli: psutil.Process | None = None
        self._on_lines = on_lines
        self._on_close = on_close
        self._request_ids = count(1)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._rest = bytearray()
        self._stderr_tail = _Tail()
        self.on_error: Callable[[bytes], None] | None = None
        """Called with what the CLI writes on standard error."""
        self._has_closed = False
        self._exited = asyncio.Event()
        self._transport: asyncio.SubprocessTransport

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        marker: str,
        on_lines: OnLines,
        on_close: OnClose,
        wrappers: int = 0,
        inherited: tuple[int, ...] = (),
    ) -> ClaudeProcess:
        """Spawn the CLI; raises `CliNotStartedError` when the operating system will not.

        `marker` is a value in `env` that no other process has: it finds descendants that left the tree.
        `wrappers` is how many processes `argv` puts above the CLI, and `inherited` are descriptors for them.
        """
        process = cls(marker, on_lines, on_close, wrappers=wrappers)
        try:
            process._transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Pipes(process),
                *argv,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                pass_fds=inherited,
                preexec_fn=partial(_die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise CliNotStartedError(f"The Claude CLI could not be started: {error}") from error
        return process

    @property
    def resident_bytes(self) -> int:
        """The CLI's own resident memory in bytes; 0 when it is gone."""
        try:
            if self._cli is None:
                self._cli = self._find_cli()
            return int(self._cli.memory_info().rss) if self._cli is not None else 0
        except psutil.Error:
            return 0

    @property
    def exit_code(self) -> int | None:
        """How it exited; negative is a signal; `None` while it runs."""
        return self._transport.get_returncode()

    @property
    def stderr_tail(self) -> str:
        """The last lines the CLI wrote on standard error, bounded in number and length."""
        return self._stderr_tail.text

    def send(self, frame: Mapping[str, Any]) -> None:
        """Write one frame; a process that is gone is noticed by its reader, not here."""
        stdin = cast("asyncio.WriteTransport | None", self._transport.get_pipe_transport(0))
        if stdin is not None and not stdin.is_closing():
            stdin.write(msgspec.json.encode(frame) + b"\n")

    def pause(self) -> None:
        """Read no more for now: the CLI is held up by its full pipe."""
        stdout = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(1))
        if stdout is not None and not stdout.is_closing():
            stdout.pause_reading()

    def resume(self) -> None:
        """Read on."""
        stdout = cast("asyncio.ReadTransport | None", self._transport.get_pipe_transport(1))
        if stdout is not None and not stdout.is_closing():
            stdout.resume_reading()

    async def request(self, request: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """Make a control request and give its answer.

        Raises `TimeoutError`, or `CliNotStartedError` with the CLI's words when it refuses or exits.
        """
        if self._has_closed:
            raise CliNotStartedError("The Claude CLI has exited.")
        request_id = f"backline-{next(self._request_ids)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[request_id] = answer
        try:
            self.send({"type": "control_request", "request_id": request_id, "request": request})
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._answers.pop(request_id, None)

    def interrupt(self) -> None:
        """Ask the CLI to end its turn; the turn's `result` line follows within some 10 ms (CLI 2.1)."""
        self.send(
            {
                "type": "control_request",
                "request_id": f"backline-{next(self._request_ids)}",
                "request": {"subtype": "interrupt"},
            }
        )

    async def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds for the exit; `True` when it has exited."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._exited.wait()
        return self._exited.is_set()

    async def end(self, *, grace_s: float = 0.0, sweep: bool = True) -> None:
        """End the CLI and all it started. Safe to call twice.

        With `grace_s` the CLI is first let go by itself. `sweep` looks for descendants of its tools too,
        which a clean exit of a run that used none does not need.
        """
        stdin = self._transport.get_pipe_transport(0)
        if stdin is not None:
            stdin.close()
        has_exited = grace_s > 0 and await self.wait(grace_s)
        if sweep or not has_exited:
            # Once it has been waited for, its id may be another process's.
            pid = None if self._exited.is_set() else self._transport.get_pid()
            await end_tree(pid, self._marker)
        await self.wait(_EXIT_S)
        with suppress(ProcessLookupError):
            self._transport.close()

    def hear(self, data: bytes) -> None:
        """Take what the CLI wrote on its output."""
        if self._has_closed:  # after a line too long nothing more is kept
            return
        self._rest += data
        if b"\n" not in data:  # a long line comes in many pieces, and is looked through once
            lines: list[bytes] = []
        else:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
        spoken = [line for line in lines if line and not self._answered(line)]
        if spoken:
            self._tell(spoken)
        if len(self._rest) > MAX_LINE_BYTES:
            self.closed(f"The CLI wrote a line of over {MAX_LINE_BYTES} bytes.")

    def _tell(self, lines: list[bytes]) -> None:
        try:
            self._on_lines(lines)
        except Exception:  # noqa: BLE001 - else the loop logs it, and the turn goes on with a hole
            _log.exception("lines_not_understood")
            self.closed("The worker failed on what the CLI said; its log has the details.")

    def hear_error(self, data: bytes) -> None:
        """Take what the CLI wrote on standard error."""
        self._stderr_tail.add(data)
        if self.on_error is not None:
            self.on_error(data)

    def closed(self, why: str | None) -> None:
        """Take note that nothing will follow; `why` is a complaint, if there is one."""
        if not self._has_closed:
            self._has_closed = True
            for waiting in self._answers.values():
                if not waiting.done():
                    waiting.set_exception(CliNotStartedError("The Claude CLI exited before it answered."))
            self._on_close(why)

    def exited(self) -> None:
        """Take note of the exit."""
        self._exited.set()

    def _find_cli(self) -> psutil.Process | None:
        """The CLI's process: the one started, or in a sandbox the first below those of its own."""
        process = psutil.Process(self._transport.get_pid())
        for _ in range(self._wrappers):
            children = process.children()
            if not children:  # it is still being set up
                return None
            process = children[0]
        return process

    def _answered(self, line: bytes) -> bool:
        if not line.startswith(_CONTROL_PREFIX):
            return False
        try:
            answer = decode_control.decode(line).response
        except (ValueError, RecursionError):  # text that is not UTF-8, nesting that is too deep
            return False
        waiting = self._answers.get(answer.request_id)
        if waiting is not None and not waiting.done():
            if answer.subtype == "error":
                waiting.set_exception(CliNotStartedError(answer.error or "The CLI refused a request."))
            else:
                waiting.set_result(answer.response or {})
        return True


class _Pipes(asyncio.SubprocessProtocol):
    def __init__(self, process: ClaudeProcess) -> None:
        self._process = process

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._process.hear(data)
        else:
            self._process.hear_error(data)

    def pipe_connection_lost(self, fd: int, _: Exception | None) -> None:
        if fd == 1:
            self._process.closed(None)

    def process_exited(self) -> None:
        self._process.exited()


class _Tail:
    """The last lines of a stream, each cut to a bound."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=_STDERR_LINES)
        self._rest = b""

    def add(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._lines.extend(line[:_STDERR_LINE_BYTES] for line in lines)
        self._rest = rest[-_STDERR_LINE_BYTES:]

    @property
    def text(self) -> str:
        return b"\n".join([*self._lines, self._rest]).decode("utf-8", "replace").strip()


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
