"""A CLI process that holds a conversation: claimed, spoken to, and kept for the next turn."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from shared.runs import RunRequest, Sampling, Turn
from worker.claude.launch import Launch, extra_body
from worker.claude.process import ClaudeProcess
from worker.claude.transcript import content_of, user_frame
from worker.claude.translate import is_result

_MIRROR_PREFIX = b'{"type":"transcript_mirror"'
_CONTROL_S = 5.0

Entry = dict[str, Any]
Listener = Callable[[list[bytes]], None]


class _MirrorFrame(msgspec.Struct, frozen=True):
    filePath: str = ""  # noqa: N815 - the CLI's own word
    entries: list[Entry] = []


class LiveProcess:
    """One process and the conversation in it. Its owner calls `end()` whatever happens.

    `on_lines` and `on_close` are whoever runs the current turn; between turns nobody listens. What the CLI
    adds to its transcript gathers in `entries` until it is taken.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.prefix = ""
        """Hash of all that was said in it; empty before its first turn, and when that is not known."""
        self.session_id = ""
        self.head: str | None = None
        """Id of the newest transcript entry."""
        self.is_claimed = False
        """Whether it has its system prompt and model."""
        self.turns = 0
        self.used_at = 0.0
        self.has_ended = False
        self.cost_usd = 0.0
        """What the CLI has counted so far: its sums are the process's, not the turn's."""
        self.on_lines: Listener = _nobody
        self.on_close: Callable[[str | None], None] = _nobody_closed
        self._process: ClaudeProcess
        self._entries: list[Entry] = []
        self._transcript: Path | None = None
        self._sampling = Sampling()
        self._seed_done: asyncio.Event | None = None

    @classmethod
    async def start(cls, launch: Launch) -> LiveProcess:
        """Spawn the CLI; raises `CliNotStartedError`."""
        live = cls(launch)
        live._process = await ClaudeProcess.start(
            launch.argv,
            cwd=launch.cwd,
            env=launch.env,
            marker=launch.marker,
            on_lines=live._hear,
            on_close=live._closed,
        )
        return live

    @property
    def process(self) -> ClaudeProcess:
        """The CLI."""
        return self._process

    async def claim(self, request: RunRequest, *, timeout_s: float) -> None:
        """Give a process that has had no turn its system prompt and model.

        Raises `TimeoutError`, or `CliNotStartedError` with the CLI's words. A system prompt reaches the
        model only with the first `initialize` (CLI 2.1), so a spare process is spawned without one.
        """
        initialize: dict[str, object] = {"subtype": "initialize", "hooks": None}
        if request.system:
            initialize["appendSystemPrompt"] = request.system
        await self._process.request(initialize, timeout_s=timeout_s)
        if request.model not in {None, self.launch.model}:
            await self._process.request(
                {"subtype": "set_model", "model": request.model}, timeout_s=_CONTROL_S
            )
        self.is_claimed = True

    async def seed(self, turns: Sequence[Turn]) -> None:
        """Put turns of history into the conversation, one at a time: sent together they would be merged."""
        for turn in turns:
            if turn.role == "assistant":
                message = {"role": "assistant", "content": content_of(turn.parts)}
                self._process.send({"type": "assistant", "message": message, "parent_tool_use_id": None})
                continue
            self._seed_done = asyncio.Event()
            self._process.send({**user_frame(turn.parts), "shouldQuery": False})
            await self._seed_done.wait()

    async def ask(self, request: RunRequest) -> None:
        """Say the prompt; the answer comes to `on_lines`."""
        if request.sampling != self._sampling:
            body = extra_body(request.sampling)
            value = msgspec.json.encode(body).decode() if body else ""
            settings = {"env": {"CLAUDE_CODE_EXTRA_BODY": value}}
            await self._process.request(
                {"subtype": "apply_flag_settings", "settings": settings}, timeout_s=_CONTROL_S
            )
            self._sampling = request.sampling
        self.turns += 1
        self._process.send(user_frame(request.prompt))

    def take_entries(self) -> list[Entry]:
        """What was added to the transcript since this was last asked."""
        entries, self._entries = self._entries, []
        return entries

    def rest(self) -> None:
        """Between turns: nobody listens."""
        self.on_lines, self.on_close = _nobody, _nobody_closed

    async def end(self, *, grace_s: float = 0.0, sweep: bool = True) -> None:
        """End the process, its tree and its files. Safe to call twice."""
        self.has_ended = True
        try:
            await self._process.end(grace_s=grace_s, sweep=sweep)
        finally:
            await asyncio.to_thread(self._remove_files)

    def _hear(self, lines: list[bytes]) -> None:
        told = [line for line in lines if not (line.startswith(_MIRROR_PREFIX) and self._mirror(line))]
        if self._seed_done is not None and not self._seed_done.is_set():
            if any(is_result(line) for line in told):
                self._seed_done.set()
        elif told:
            self.on_lines(told)

    def _mirror(self, line: bytes) -> bool:
        """Keep the main conversation's entries; a sub-agent's are in files of their own."""
        try:
            frame = _decode_mirror.decode(line)
        except (ValueError, RecursionError):
            return True
        path = Path(frame.filePath)
        if path.parent.name == "subagents":
            return True
        self._transcript = path
        self.session_id = path.stem
        kept = [entry for entry in frame.entries if isinstance(entry.get("uuid"), str)]
        if kept:
            self._entries.extend(kept)
            self.head = kept[-1]["uuid"]
        return True

    def _closed(self, why: str | None) -> None:
        self.has_ended = True
        if self._seed_done is not None:
            self._seed_done.set()
        self.on_close(why)

    def _remove_files(self) -> None:
        shutil.rmtree(self.launch.scratch, ignore_errors=True)
        if self._transcript is not None:
            self._transcript.unlink(missing_ok=True)
            shutil.rmtree(self._transcript.with_suffix(""), ignore_errors=True)


def new_session_id() -> str:
    """An id for a conversation that no process has had."""
    return str(uuid4())


def _nobody(_: list[bytes]) -> None:
    """Nobody listens between turns."""


def _nobody_closed(_: str | None) -> None:
    """Nobody listens between turns."""


_decode_mirror: msgspec.json.Decoder[_MirrorFrame] = msgspec.json.Decoder(_MirrorFrame)
