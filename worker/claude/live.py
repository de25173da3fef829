"""A CLI process that holds a conversation: claimed, spoken to, and kept for the next turn."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import structlog

from shared.content import Part
from shared.runs import RunRequest
from worker.claude.client_tools import ClientTools
from worker.claude.cut import until_cut
from worker.claude.launch import Launch
from worker.claude.lines import ControlRequest, HookInput, decode_request
from worker.claude.process import ClaudeProcess, CliNotStartedError
from worker.claude.transcript import Entry, Message, content_of, user_frame
from worker.claude.translate import is_result
from worker.claude.turn_settings import NONE, turn_settings

_MIRROR_PREFIX = b'{"type":"transcript_mirror"'
_CONTROL_PREFIX = b'{"type":"control_request"'
_INIT_PREFIX = b'{"type":"system","subtype":"init"'
_OURS = (_MIRROR_PREFIX, _CONTROL_PREFIX, _INIT_PREFIX)
_CONTROL_S = 5.0
_MIRROR_S = 2.0
_DEFERRED = "hook_deferred_tool"

_log = structlog.get_logger(__name__)

Listener = Callable[[list[bytes]], None]
Reply = Callable[[dict[str, Any]], None]
HookListener = Callable[[HookInput, Reply], None]


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
        self.on_hook: HookListener = _nobody_decides
        self.on_entries: Callable[[list[Entry]], None] = _nobody_keeps
        self.on_end: Callable[[], None] | None = None
        """Called when the process has ended."""
        self.init = b""
        """The line (`system/init`) with which the CLI last began a turn; empty before the first."""
        self.tools = ClientTools()
        self._process: ClaudeProcess
        self._entries: list[Entry] = []
        self._transcript: Path | None = None
        self._settings = NONE
        self._seed_done: asyncio.Event | None = None
        self._has_listed = asyncio.Event()
        self._has_mirrored = asyncio.Event()
        self._parents: dict[str, str | None] = {}

    @classmethod
    async def start(cls, launch: Launch) -> LiveProcess:
        """Spawn the CLI; raises `CliNotStartedError`."""
        live = cls(launch)
        live._process = await ClaudeProcess.start(
            launch.argv,
            cwd=launch.cwd,
            env=launch.env,
            marker=launch.marker,
            wrappers=launch.wrappers,
            inherited=() if launch.exit is None else (launch.exit,),
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
        self.tools = ClientTools.of(request)
        initialize: dict[str, object] = {"subtype": "initialize", "hooks": None, **self.tools.initialize}
        system = [text for text in (request.system, self.tools.overflow) if text]
        if self.launch.options.agents is not None:
            initialize["agents"] = msgspec.json.decode(self.launch.options.agents)
        if system:
            initialize["appendSystemPrompt"] = "\n\n".join(system)
        await self._process.request(initialize, timeout_s=timeout_s)
        if request.tools:
            async with asyncio.timeout(_CONTROL_S):
                await self._has_listed.wait()
            if self.has_ended:
                raise CliNotStartedError("The Claude CLI exited before it knew its tools.")
        if request.model not in {None, self.launch.model}:
            await self._process.request(
                {"subtype": "set_model", "model": request.model}, timeout_s=_CONTROL_S
            )
        self.is_claimed = True

    def fits(self, request: RunRequest) -> bool:
        """Whether the process is what the request asks for, besides the conversation in it."""
        return self.tools.serve(request) and self.launch.options == request.options

    async def seed(self, messages: Sequence[Message]) -> None:
        """Put messages into the conversation, one at a time: sent together they would be merged."""
        for message in messages:
            if message["role"] == "assistant":
                self._process.send({"type": "assistant", "message": message, "parent_tool_use_id": None})
                continue
            self._seed_done = asyncio.Event()
            self._process.send({**user_frame(message), "shouldQuery": False})
            await self._seed_done.wait()

    async def ask(self, request: RunRequest, prompt: Sequence[Part] | None = None) -> None:
        """Say the prompt, or `prompt` in its place; the answer comes to `on_lines`."""
        settings = turn_settings(request, self.tools)
        if settings != self._settings:
            await self._process.request(
                {"subtype": "apply_flag_settings", "settings": settings}, timeout_s=_CONTROL_S
            )
            self._settings = settings
        self.turns += 1
        self._process.send(user_frame({"role": "user", "content": content_of(prompt or request.prompt)}))

    async def mirrors(self, message: str) -> None:
        """Wait until the transcript has come up to a message: the CLI writes it on a timer of its own."""
        if not message:
            return
        try:
            async with asyncio.timeout(_MIRROR_S):
                while not self.has_ended and not any(entry["uuid"] == message for entry in self._entries):
                    self._has_mirrored.clear()
                    await self._has_mirrored.wait()
        except TimeoutError:
            _log.warning("transcript_late", session=self.session_id)

    def take_entries(self) -> list[Entry]:
        """What was added to the transcript since this was last asked."""
        entries, self._entries = self._entries, []
        return entries

    def cut_off(self) -> bool:
        """Leave out what the CLI added after an answer that met the token limit; `False` for no such answer.

        The process remembers it all the same, so it cannot be kept.
        """
        if kept := until_cut(self._entries):
            self._entries, self.head = kept, kept[-1]["uuid"]
        return bool(kept)

    def rest(self) -> None:
        """Between turns: nobody listens."""
        self.on_lines, self.on_close = _nobody, _nobody_closed
        self.on_hook, self.on_entries = _nobody_decides, _nobody_keeps
        self._process.on_error = None

    async def end(self, *, grace_s: float = 0.0, sweep: bool = True) -> None:
        """End the process, its tree and its files. Safe to call twice."""
        self.has_ended = True
        try:
            await self._process.end(grace_s=grace_s, sweep=sweep)
        finally:
            if self.on_end is not None:
                self.on_end()
            await asyncio.to_thread(self._remove_files)

    def _hear(self, lines: list[bytes]) -> None:
        """Deal with lines in their order: what the CLI asks is about what it said before."""
        told: list[bytes] = []
        for line in lines:
            if line.startswith(_OURS):
                self._tell(told)
                told = []
                self._keep(line)
            else:
                told.append(line)
        self._tell(told)

    def _tell(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._seed_done is None or self._seed_done.is_set():
            self.on_lines(lines)
        elif any(is_result(line) for line in lines):
            self._seed_done.set()

    def _keep(self, line: bytes) -> None:
        """Deal with what is not the turn's: what the CLI has, transcript entries, the CLI's own requests."""
        try:
            if line.startswith(_INIT_PREFIX):
                self.init = line
            elif line.startswith(_MIRROR_PREFIX):
                self._mirror(_decode_mirror.decode(line))
            else:
                self._answer(decode_request.decode(line))
        except (ValueError, RecursionError):
            return

    def _answer(self, asked: ControlRequest) -> None:
        """Answer a request of the CLI's, or have the turn do it; the CLI waits."""

        def reply(answer: dict[str, Any]) -> None:
            said = {"subtype": "success", "request_id": asked.request_id, "response": answer}
            self._process.send({"type": "control_response", "response": said})

        match asked.request.subtype:
            case "mcp_message":
                reply({"mcp_response": self.tools.answer(asked.request.message)})
                if asked.request.message.get("method") == "tools/list":
                    self._has_listed.set()
            case "hook_callback":
                self.on_hook(asked.request.input, reply)
            case subtype:
                said = {"subtype": "error", "request_id": asked.request_id, "error": f"No {subtype} here."}
                self._process.send({"type": "control_response", "response": said})

    def _mirror(self, frame: _MirrorFrame) -> None:
        """Keep the main conversation's entries; a sub-agent's are in files of their own."""
        path = Path(frame.filePath)
        if path.parent.name == "subagents":
            return
        self._transcript = path
        self.session_id = path.stem
        kept = [entry for entry in map(self._linked, frame.entries) if entry is not None]
        if kept:
            self._entries.extend(kept)
            self.head = kept[-1]["uuid"]
            self.on_entries(kept)
            self._has_mirrored.set()

    def _linked(self, entry: Entry) -> Entry | None:
        """An entry worth keeping, linked to others that are.

        The note of a deferred call is not: whoever resumes a transcript that has one, answered or not, is
        told that the call's tool is not there (CLI 2.1).
        """
        if not isinstance(entry.get("uuid"), str):
            return None
        parent = entry.get("parentUuid")
        while parent in self._parents:
            parent = self._parents[parent]
        if entry.get("type") == "attachment" and entry.get("attachment", {}).get("type") == _DEFERRED:
            self._parents[entry["uuid"]] = parent
            return None
        return entry if parent == entry.get("parentUuid") else {**entry, "parentUuid": parent}

    def _closed(self, why: str | None) -> None:
        self.has_ended = True
        self._has_listed.set()
        self._has_mirrored.set()
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


def _nobody_keeps(_: list[Entry]) -> None:
    """Between turns nothing is added that another worker would need."""


def _nobody_closed(_: str | None) -> None:
    """Nobody listens between turns."""


def _nobody_decides(_: HookInput, reply: Reply) -> None:
    """Nobody listens between turns; the CLI asks about no call then."""
    reply({})


_decode_mirror: msgspec.json.Decoder[_MirrorFrame] = msgspec.json.Decoder(_MirrorFrame)
