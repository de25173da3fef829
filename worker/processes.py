"""Which process serves a run: the one that needs the least to be told."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from shared.agents import Agent
from shared.content import ImagePart, Turn
from shared.disk import trouble_at
from shared.runs import RunRequest
from shared.settings import Settings
from worker.claude.client_tools import ClientTools
from worker.claude.home import Home, Homes, forget_memory, trust
from worker.claude.launch import Launch, Launcher
from worker.claude.live import LiveProcess, new_session_id
from worker.claude.process import CliNotStartedError
from worker.claude.transcript import (
    Entry,
    Message,
    entries_of,
    has_results,
    messages_of,
    split_at_calls,
    split_history,
    transcript_of,
)
from worker.directories import AgentFaultError, fault_of
from worker.egress.egress import Egress
from worker.gate.gate import Gate
from worker.pool import Owner, Pool
from worker.recovery import Lost
from worker.revisions.checkouts import hold
from worker.sandbox.bubblewrap import Bubblewrap, SandboxError
from worker.sessions import Sessions

_MOST_SEEDED_TURNS = 60
"""A longer history is resumed from a file by a new process: `make bench` measures where the two cross."""


HowFound = Literal["live", "resumed", "warm", "new"]
HOW_FOUND: tuple[HowFound, ...] = ("live", "resumed", "warm", "new")


class Found(msgspec.Struct, frozen=True):
    """A process, and the messages it has yet to be told before the prompt.

    `how`: it had the conversation (`live`), was started with what is stored of it (`resumed`), was kept
    without one (`warm`), or is new.
    """

    process: LiveProcess
    seeds: Sequence[Message]
    how: HowFound

    @property
    def was_kept(self) -> bool:
        """Whether it had been kept idle."""
        return self.how in {"live", "warm"}


class Place(msgspec.Struct, frozen=True):
    """Where a conversation stands: its session, the newest entry there, and what is to be stored before it.

    `head` is `None` where there is no stored session yet; then `transcript` is the history.
    """

    session: str
    head: str | None
    transcript: Sequence[Entry]

    @property
    def newest(self) -> str | None:
        """The entry that the next one follows."""
        return self.transcript[-1]["uuid"] if self.transcript else self.head


class Processes:
    """Finds or starts the process for a run; what it gives is the caller's to keep or to end."""

    def __init__(
        self,
        launcher: Launcher,
        homes: Homes,
        pool: Pool,
        sessions: Sessions,
        box: Bubblewrap | None = None,
        gate: Gate | None = None,
        settings_of: Callable[[str], Settings] | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._launcher = launcher
        self._egress = egress
        self._gate = gate
        self._settings_of = settings_of
        self._box = box
        self._homes = homes
        self._pool = pool
        self._sessions = sessions

    async def find(self, request: RunRequest, agent: Agent) -> Found:
        """A live process that holds exactly the history; else the stored session that does, resumed.

        Else a spare process that is told a short history turn by turn, or a new one that resumes a
        transcript made of it. Raises `CliNotStartedError`, `OSError`, or `SessionGoneError` when the request
        names a session and neither of the first two is there.
        """
        if _keeps_nothing(request):
            return await self.make(request, agent)
        if request.prefix and (live := await self._live(request, agent)) is not None:
            return Found(live, messages_of(_added(request)), "live")
        if (stored := await self._stored(request, agent)) is not None:
            return stored
        if len(request.history) <= _MOST_SEEDED_TURNS:
            spare = self._spare_for(request)
            if spare is not None:
                return Found(spare, messages_of(_history(request)), "warm")
        return await self.make(request, agent)

    async def make(self, request: RunRequest, agent: Agent) -> Found:
        """A new process, whatever is kept; raises `CliNotStartedError`, `OSError` or `SessionGoneError`."""
        if request.session and (stored := await self._stored(request, agent)) is not None:
            return stored
        resumed, seeds = split_history(request, _history(request))
        lines = transcript_of(resumed) if resumed else b""
        process = await self._start(
            request, agent, new_session_id(), lines, is_mirrored=not _keeps_nothing(request)
        )
        return Found(process, messages_of(seeds), "new")

    async def recover(self, request: RunRequest, agent: Agent, lost: Lost) -> tuple[Found, Place]:
        """A new process that knows the history and a turn as far as it had come on a worker that was lost.

        Also gives where the conversation stands. Raises what `make` raises.
        """
        stored = await self._sessions.find(request)
        seeds: list[Message] = []
        if stored is None:
            resumed, told = split_history(request, _history(request))
            lines, seeds = transcript_of(resumed), messages_of(told)
            place = Place(new_session_id(), None, transcript=entries_of(messages_of(_history(request)), None))
        else:
            session_id, entries = stored
            place = Place(session_id, entries[-1]["uuid"], transcript=())
            if has_results(request):
                told_entries, seeds = split_at_calls(entries, entries[-1]["uuid"])
                lines = _lines(told_entries)
            else:
                lines, seeds = _lines(entries), messages_of(_added(request))
        process = await self._start(request, agent, new_session_id(), lines)
        how: HowFound = "new" if stored is None else "resumed"
        return Found(process, [*seeds, *lost.messages(request)], how), place

    async def spare(self, owner: Owner, agent: Agent) -> LiveProcess:
        """A process without a conversation; raises `CliNotStartedError` or `OSError`."""
        return await self._launch(owner, agent, None, "", b"", is_mirrored=True)

    def _spare_for(self, request: RunRequest) -> LiveProcess | None:
        """A spare process, which there is of an agent as it is, and of no revision."""
        return None if request.revision else self._pool.take_spare(_owner(request))

    async def _live(self, request: RunRequest, agent: Agent) -> LiveProcess | None:
        live = self._pool.take_live(request.prefix)
        if live is None:
            return None
        is_ours = request.session in {"", live.session_id} and live.launch.revision == agent.revision
        if is_ours and live.fits(request):
            return live
        if not self._pool.keep(live):  # another session in which the same was said, a moved tag, other tools
            await self._pool.discard(live, is_clean=True, sweep=True)
        return None

    async def _stored(self, request: RunRequest, agent: Agent) -> Found | None:
        stored = await self._sessions.find(request)
        if stored is None:
            return None
        session_id, entries = stored
        seeds = messages_of(_added(request))
        if has_results(request):
            resumed, seeds = split_at_calls(entries, entries[-1]["uuid"])
            entries = list(resumed)
            if not entries and (spare := self._spare_for(request)) is not None:
                return Found(spare, seeds, "warm")
        process = await self._start(request, agent, session_id, _lines(entries))
        return Found(process, seeds, "resumed")

    async def _start(
        self,
        request: RunRequest,
        agent: Agent,
        session_id: str,
        transcript: bytes,
        *,
        is_mirrored: bool = True,
    ) -> LiveProcess:
        return await self._launch(
            _owner(request), agent, request.model, session_id, transcript, is_mirrored=is_mirrored
        )

    async def _launch(
        self,
        owner: Owner,
        agent: Agent,
        model: str | None,
        session_id: str,
        transcript: bytes,
        *,
        is_mirrored: bool,
    ) -> LiveProcess:
        scratch = self._homes.scratch()
        try:
            path: Path | None = None
            if transcript:
                path = scratch / f"{session_id}.jsonl"
                path.write_bytes(transcript)
            plan = self._launcher.plan(
                agent,
                self._home(owner, agent, scratch),
                scratch,
                model=model,
                options=owner.options,
                transcript=path,
                is_mirrored=is_mirrored,
            )
            process = await self._begin(plan, owner)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        self._pool.adopt(process, owner)
        return process

    async def _begin(self, plan: Launch, owner: Owner) -> LiveProcess:
        """Start what was planned, with a pass to the model and a way out that end when it does."""
        if fault := await asyncio.to_thread(fault_of, plan.cwd):
            raise AgentFaultError(f"The agent {owner.agent!r} cannot be run right now. {fault}")
        if trouble := await asyncio.to_thread(trouble_at, plan.scratch):
            raise OSError(errno.ENOSPC, trouble)  # what the CLI does then nobody knows
        with ExitStack() as opened:
            if plan.revision:
                opened.callback(hold(plan.cwd))
            settings = self._settings_of(owner.agent) if self._settings_of is not None else None
            is_apart = settings is not None and settings.agent_network != "host"
            if self._gate is not None:
                issued = self._gate.issue()
                opened.callback(self._gate.revoke, issued)
                plan = self._gate.open_for(plan, issued, by_door=is_apart)
            way = self._egress.way(owner.agent) if self._egress is not None else None
            if way is not None:
                opened.callback(way.close)
                plan = way.open_for(plan)
            process = await LiveProcess.start(await self._enclosed(plan, owner, settings))
            if way is not None:
                way.begin()
            process.on_end = opened.pop_all().close
        return process

    async def _enclosed(self, plan: Launch, owner: Owner, settings: Settings | None) -> Launch:
        if self._box is None:
            return plan
        login = self._homes.login_file
        enclose = partial(self._box.enclose, is_project=bool(owner.project), settings=settings)
        try:
            return await asyncio.to_thread(enclose, plan, login)
        except SandboxError as error:
            raise CliNotStartedError(str(error)) from error

    def _home(self, owner: Owner, agent: Agent, scratch: Path) -> Home:
        """Where the CLI keeps its own: in a sandbox nothing that one run leaves there waits for the next."""
        if self._box is not None:
            home = self._homes.private(scratch)
        else:
            home = self._homes.home(owner.tenant, agent.name, owner.project)
            forget_memory(home)
        trust(home, agent.directory)
        return home


def _owner(request: RunRequest) -> Owner:
    return Owner(request.tenant, request.agent, request.options, request.project)


def _history(request: RunRequest) -> Sequence[Turn]:
    return ClientTools.of(request).in_models_words(request.history)


def _added(request: RunRequest) -> Sequence[Turn]:
    return _history(request) if request.session else ()


def _lines(entries: Sequence[Entry]) -> bytes:
    return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)


def _keeps_nothing(request: RunRequest) -> bool:
    """Whether the conversation is not the server's to keep, and nobody goes on with it, or it has an image.

    Nobody goes on with a batch's, and a process of its own leaves the spare ones to those who wait.
    Where a conversation is kept on disk, the CLI (2.1) adds the path of a copy to every message that has
    an image: the model would not see the client's messages, and would see a path of this host. Documents it
    leaves as they are.
    """
    if request.session or request.conversation:
        return False
    if request.is_batch:
        return True
    turns = [*(turn.parts for turn in request.history), request.prompt]
    return any(isinstance(part, ImagePart) for parts in turns for part in parts)
