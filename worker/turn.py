"""One turn of an agent: a process is started, spoken to, watched, and ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import structlog

from shared.agents import Agent
from shared.runs import (
    ErrorKind,
    RunCancelled,
    RunError,
    RunEvent,
    RunFailed,
    RunRequest,
    TerminalEvent,
    Turn,
)
from shared.settings import Settings
from worker.claude.home import Homes, trust
from worker.claude.launch import Launch, Launcher
from worker.claude.process import ClaudeProcess, CliNotStartedError
from worker.claude.transcript import content_of, split_history, transcript_of, user_frame
from worker.claude.translate import Translator, Wish, is_result

_INTERRUPT_GRACE_S = 0.5
_EXIT_GRACE_S = 2.0

_log = structlog.get_logger(__name__)


class Reporter(Protocol):
    """Where a turn's events go."""

    def say(self, event: RunEvent) -> None:
        """Say the next event; never waits."""

    @property
    def is_full(self) -> bool:
        """Whether the turn should say no more for now."""

    async def room(self) -> None:
        """Wait until it may go on."""

    async def conclude(self, event: TerminalEvent) -> None:
        """Say the last event; returns when it is safe."""


class Stop:
    """A way to end a turn from outside: the first reason counts."""

    def __init__(self) -> None:
        self._event: TerminalEvent | None = None
        self._is_asked = asyncio.Event()

    def ask(self, event: TerminalEvent) -> None:
        """End the turn with `event`, its usage filled in when it is known."""
        if self._event is None:
            self._event = event
            self._is_asked.set()

    @property
    def event(self) -> TerminalEvent | None:
        """With what to end, once asked."""
        return self._event

    async def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` seconds to be asked."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._is_asked.wait()
        except TimeoutError:
            return False
        return True


class Turns:
    """Runs turns on this host; each has a process of its own, gone when the turn is over."""

    def __init__(self, settings: Settings, launcher: Launcher, homes: Homes) -> None:
        self._settings = settings
        self._launcher = launcher
        self._homes = homes

    async def run(self, request: RunRequest, agent: Agent, reporter: Reporter, stop: Stop) -> None:
        """Run `request`: say its events as they come, and conclude with the terminal one.

        Returns when the process and its tree are gone, which is some time after the conclusion.
        """
        try:
            home = self._homes.home(request.tenant, agent.name)
            trust(home, agent.directory)
            with self._homes.scratch() as scratch:
                transcript = _write_transcript(request, scratch)
                launch = self._launcher.plan(request, agent, home, scratch, transcript)
                await _Turn(request, self._settings, reporter, stop).run(launch)
        except (CliNotStartedError, OSError) as error:
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.CLI_NOT_STARTED, str(error))))


class _Turn:
    def __init__(self, request: RunRequest, settings: Settings, reporter: Reporter, stop: Stop) -> None:
        self._request = request
        self._settings = settings
        self._reporter = reporter
        self._stop = stop
        self._translator = Translator()
        self._process: ClaudeProcess
        self._tasks = asyncio.TaskGroup()
        self._is_started = False
        self._is_seeding = False
        self._is_held_up = False
        self._seeded = asyncio.Event()
        self._over = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()

    async def run(self, launch: Launch) -> None:
        self._process = await ClaudeProcess.start(
            launch.argv,
            cwd=launch.cwd,
            env=launch.env,
            marker=launch.marker,
            on_lines=self._hear,
            on_close=self._closed,
        )
        is_clean = False
        try:
            async with self._tasks as tasks:
                helpers = [tasks.create_task(self._watch()), tasks.create_task(self._start())]
                await self._over.wait()
                for helper in helpers:
                    helper.cancel()
            is_clean = self._translator.wish is Wish.END and self._stop.event is None
            await self._reporter.conclude(self._terminal())
        finally:
            needs_sweep = not is_clean or self._translator.used_tools
            ending = asyncio.ensure_future(
                self._process.end(grace_s=_EXIT_GRACE_S if is_clean else 0.0, sweep=needs_sweep)
            )
            while (
                not ending.done()
            ):  # bounded; a cancel here (the lease is gone by now) would leave a process
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)

    async def _start(self) -> None:
        """Initialize the CLI and give it the prompt."""
        initialize: dict[str, object] = {"subtype": "initialize", "hooks": None}
        if self._request.system:
            initialize["appendSystemPrompt"] = self._request.system
        try:
            await self._process.request(initialize, timeout_s=self._settings.start_timeout_s)
        except (TimeoutError, CliNotStartedError) as error:
            said = str(error) or f"No answer within {self._settings.start_timeout_s:g} s."
            self._stop.ask(RunFailed(error=RunError(ErrorKind.CLI_NOT_STARTED, self._with_stderr(said))))
            return
        self._is_started = True
        _, seeds = split_history(self._request)
        for turn in seeds:
            await self._seed(turn)
        self._process.send(user_frame(self._request.prompt))

    async def _seed(self, turn: Turn) -> None:
        """Put one turn of history into the conversation; the CLI acknowledges a user's with a `result`."""
        if turn.role == "assistant":
            message = {"role": "assistant", "content": content_of(turn.parts)}
            self._process.send({"type": "assistant", "message": message, "parent_tool_use_id": None})
            return
        self._seeded.clear()
        self._is_seeding = True
        self._process.send({**user_frame(turn.parts), "shouldQuery": False})
        await self._seeded.wait()

    def _hear(self, lines: list[bytes]) -> None:
        """Translate what the CLI says and pass it on: the token path."""
        self._heard_at = self._clock()
        if self._is_seeding:
            self._hear_seed(lines)
            return
        translator = self._translator
        for line in lines:
            if self._over.is_set():
                return
            for event in translator.feed(line):
                self._reporter.say(event)
            if translator.wish is Wish.INTERRUPT:
                translator.wish = Wish.GO_ON
                self._process.interrupt()
            elif translator.wish is Wish.END:
                self._over.set()
        if self._reporter.is_full and not self._is_held_up:
            self._tasks.create_task(self._hold_up())

    def _hear_seed(self, lines: list[bytes]) -> None:
        if any(is_result(line) for line in lines):
            self._is_seeding = False
            self._seeded.set()

    def _closed(self, why: str | None) -> None:
        if why is not None:
            self._stop.ask(RunFailed(error=RunError(ErrorKind.INTERNAL, why)))
        self._over.set()

    async def _hold_up(self) -> None:
        """Let the CLI wait while Redis is away or behind."""
        self._is_held_up = True
        self._process.pause()
        await self._reporter.room()
        self._process.resume()
        self._is_held_up = False

    async def _watch(self) -> None:
        """Wait for a stop, asked or by one of the limits; then interrupt, and kill what does not listen."""
        run_limit_s = self._request.timeout_s or self._settings.run_timeout_s
        ends_at = self._clock() + run_limit_s
        while True:
            silent_at = self._heard_at + self._settings.idle_timeout_s
            if await self._stop.wait(max(0.0, min(ends_at, silent_at) - self._clock())):
                break
            if self._clock() >= ends_at:
                said = f"The run took longer than {run_limit_s:g} s."
                self._stop.ask(RunFailed(error=RunError(ErrorKind.RUN_TIMEOUT, said)))
            elif self._clock() >= self._heard_at + self._settings.idle_timeout_s:
                said = f"The agent said nothing for {self._settings.idle_timeout_s:g} s."
                self._stop.ask(RunFailed(error=RunError(ErrorKind.SILENT, said)))
        self._process.interrupt()
        await asyncio.sleep(_INTERRUPT_GRACE_S)
        await self._process.end()

    def _terminal(self) -> TerminalEvent:
        usage = self._translator.usage
        match self._stop.event:
            case RunFailed(error=error):
                return RunFailed(error=error, usage=usage)
            case RunCancelled(reason=reason):
                return RunCancelled(reason=reason, usage=usage)
        if self._translator.skipped_lines:
            _log.warning("cli_lines_skipped", count=self._translator.skipped_lines)
        said = self._with_stderr(
            f"The Claude CLI ended without a result (exit code {self._process.exit_code})."
        )
        kind = ErrorKind.CLI_DIED if self._is_started else ErrorKind.CLI_NOT_STARTED
        return self._translator.terminal() or RunFailed(error=RunError(kind, said), usage=usage)

    def _with_stderr(self, said: str) -> str:
        tail = self._process.stderr_tail
        return f"{said} It wrote: {tail[-500:]}" if tail else said


def _write_transcript(request: RunRequest, scratch: Path) -> Path | None:
    resumed, _ = split_history(request)
    if not resumed:
        return None
    transcript = scratch / "history.jsonl"
    transcript.write_bytes(transcript_of(resumed))
    return transcript
