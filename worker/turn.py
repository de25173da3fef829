"""One turn of an agent in a process: spoken to, listened to, watched, and stopped in time."""

from __future__ import annotations

import asyncio
import signal
from typing import Protocol

import structlog

from shared.content import ToolUsePart
from shared.run_events import (
    ErrorKind,
    RunCancelled,
    RunCompleted,
    RunError,
    RunEvent,
    RunFailed,
    TerminalEvent,
)
from shared.runs import RunRequest
from shared.settings import Settings
from shared.telemetry import redacted
from worker.claude.calls import Calls
from worker.claude.client_tools import ClientTools, is_clients
from worker.claude.lines import HookInput
from worker.claude.live import Reply
from worker.claude.process import CliNotStartedError
from worker.claude.transcript import Entry
from worker.claude.translate import Translator, Wish
from worker.memory import oom_kills
from worker.processes import Found
from worker.recovery import GO_ON, Lost, Steps, StepTooLargeError
from worker.stderr import MOST_STDERR, Stderr

_INTERRUPT_GRACE_S = 0.5
_EXIT_S = 1.0
_KILLED = {-signal.SIGKILL, 128 + signal.SIGKILL}
"""How a process ends that was killed; the second is a sandbox's word for it."""

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


class Turn:
    """One turn of a conversation in one process, from the first word said to the last one heard.

    With `lost` it takes up a turn that another worker left.
    """

    def __init__(
        self,
        found: Found,
        request: RunRequest,
        settings: Settings,
        reporter: Reporter,
        stop: Stop,
        lost: Lost | None = None,
    ) -> None:
        self._process = found.process
        self._seeds = found.seeds
        self._request = request
        self._settings = settings
        self._reporter = reporter
        self._stop = stop
        self._calls = Calls(ClientTools.of(request), request.tool_choice, request.max_tool_calls)
        self._translator = Translator(
            found.process.cost_usd, self._calls, request.output, hands_back=settings.upstream_retries > 0
        )
        self._prompt = request.prompt
        self._steps: Steps | None = Steps(GO_ON if lost is not None else "")
        if lost is not None:
            self._prompt = lost.prompt
            self._translator.go_on_after(lost.text, is_cut=bool(lost.tail) and not lost.tools)
        self._stderr = Stderr(reporter.say)
        self._asked: list[tuple[HookInput, Reply]] = []
        self._tasks = asyncio.TaskGroup()
        self._oom_kills = oom_kills()
        self._is_started = False
        self._has_spoken = False
        self._is_held_up = False
        self._over = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._heard_at = self._clock()

    async def run(self) -> TerminalEvent:
        """Ask, pass on what is said, and give the terminal event; it is not said yet."""
        process = self._process
        process.on_lines, process.on_close = self._hear, self._closed
        process.on_hook, process.on_entries = self._asks, self._keep
        process.process.on_error = self._stderr.hear
        if self._process.has_ended:
            self._over.set()
        async with self._tasks as tasks:
            helpers = [tasks.create_task(self._watch()), tasks.create_task(self._start())]
            await self._over.wait()
            if self._process.has_ended and self._stop.event is None:
                await self._process.process.wait(_EXIT_S)  # its output ends a moment before it does
            for helper in helpers:
                helper.cancel()
        self._process.cost_usd = self._translator.total_cost_usd
        return self._terminal()

    @property
    def answer(self) -> str:
        """All text of the answer."""
        return self._translator.answer

    @property
    def calls(self) -> tuple[ToolUsePart, ...]:
        """The calls that are left to the client."""
        return self._translator.calls

    @property
    def last_message(self) -> str:
        """Id of the last message of the answer; empty when there is none."""
        return self._translator.last_message

    @property
    def is_clean(self) -> bool:
        """Whether the CLI ended the turn by itself."""
        return self._translator.wish is Wish.END and self._stop.event is None

    @property
    def needs_sweep(self) -> bool:
        """Whether tools may have left processes behind."""
        return not self.is_clean or self._translator.used_tools

    @property
    def found_it_dead(self) -> bool:
        """Whether the process was gone before it said anything."""
        return self._process.has_ended and not self._has_spoken and self._stop.event is None

    def may_be_kept(self, event: TerminalEvent) -> bool:
        """Whether the process now holds just what the client has seen."""
        is_whole = isinstance(event, RunCompleted) and event.finish in {"stop", "tool_calls"}
        return self.is_clean and is_whole and self._process.launch.is_mirrored

    def was_cut(self, event: TerminalEvent) -> bool:
        """Whether the answer met the token limit: what the client has seen of it is the conversation's."""
        is_cut = isinstance(event, RunCompleted) and event.finish == "length"
        return self.is_clean and is_cut and not self.calls and self._process.launch.is_mirrored

    async def _start(self) -> None:
        """Claim the process, tell it what it does not know yet, and ask."""
        try:
            if not self._process.is_claimed:
                await self._process.claim(self._request, timeout_s=self._settings.start_timeout_s)
            self._is_started = True
            await self._process.seed(self._seeds)
            await self._process.ask(self._request, self._prompt)
        except (TimeoutError, CliNotStartedError) as error:
            if not self._process.has_ended:
                said = str(error) or f"No answer within {self._settings.start_timeout_s:g} s."
                self._stop.ask(RunFailed(error=RunError(ErrorKind.CLI_NOT_STARTED, self._with_stderr(said))))

    def _hear(self, lines: list[bytes]) -> None:
        """Translate what the CLI says and pass it on: the token path."""
        self._heard_at = self._clock()
        translator = self._translator
        for line in lines:
            if self._over.is_set():
                return
            for event in translator.feed(line):
                self._has_spoken = True
                self._reporter.say(event)
            if translator.wish is Wish.INTERRUPT:
                translator.wish = Wish.GO_ON
                self._process.process.interrupt()
            elif translator.wish is Wish.END:
                self._over.set()
        if self._asked:
            self._decide()
        if self._reporter.is_full and not self._is_held_up:
            self._tasks.create_task(self._hold_up())

    def _keep(self, entries: list[Entry]) -> None:
        """Note for another worker what the agent has done, in case this one is lost."""
        if self._steps is None:
            return
        try:
            step = self._steps.add(entries)
        except StepTooLargeError:
            self._steps = None
            return
        if step is not None:
            self._reporter.say(step)

    def _asks(self, call: HookInput, reply: Reply) -> None:
        """The CLI asks whether it may make a call."""
        self._asked.append((call, reply))
        self._decide()

    def _decide(self) -> None:
        """Answer what can be answered by now."""
        waiting: list[tuple[HookInput, Reply]] = []
        for call, reply in self._asked:
            verdict = self._calls.verdict(
                call.tool_use_id if call.agent_id is None else "", call.tool_name, is_clients=is_clients(call)
            )
            if verdict is None:
                waiting.append((call, reply))
            else:
                reply(verdict.answer)
        self._asked = waiting

    def _closed(self, why: str | None) -> None:
        if why is not None:
            self._stop.ask(RunFailed(error=RunError(ErrorKind.INTERNAL, why)))
        self._over.set()

    async def _hold_up(self) -> None:
        """Let the CLI wait while Redis is away or behind."""
        self._is_held_up = True
        self._process.process.pause()
        await self._reporter.room()
        self._process.process.resume()
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
        self._process.process.interrupt()
        await asyncio.sleep(_INTERRUPT_GRACE_S)
        await self._process.process.end()

    def _terminal(self) -> TerminalEvent:
        usage = self._translator.usage
        match self._stop.event:
            case RunFailed(error=error):
                return RunFailed(error=error, usage=usage)
            case RunCancelled(reason=reason):
                return RunCancelled(reason=reason, usage=usage)
        if self._translator.skipped_lines:
            _log.warning("cli_lines_skipped", count=self._translator.skipped_lines)
        stderr = redacted(self._process.process.stderr_tail)[-MOST_STDERR:]
        return self._translator.terminal() or RunFailed(error=self._death(), usage=usage, stderr=stderr)

    def _death(self) -> RunError:
        """Why there is no result, of a CLI that nobody here has ended."""
        exit_code = self._process.process.exit_code
        if exit_code in _KILLED:
            return RunError(ErrorKind.AGENT_OUT_OF_MEMORY, self._with_stderr(_killed(self._oom_kills)))
        kind = ErrorKind.CLI_DIED if self._is_started else ErrorKind.CLI_NOT_STARTED
        said = f"The Claude CLI ended without a result (exit code {exit_code})."
        return RunError(kind, self._with_stderr(said))

    def _with_stderr(self, said: str) -> str:
        tail = redacted(self._process.process.stderr_tail)
        return f"{said} It wrote: {tail[-500:]}" if tail else said


def _killed(oom_kills_before: int | None) -> str:
    """What is known of a kill that was not ours."""
    now = oom_kills()
    if now is not None and oom_kills_before is not None and now > oom_kills_before:
        return "The Claude CLI was killed (SIGKILL); meanwhile the kernel killed for lack of memory here."
    return "The Claude CLI was killed (SIGKILL); the likely cause is lack of memory."
