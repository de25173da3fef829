"""Turns of agents on this host: a process is found, spoken to, kept or ended, and the conversation saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog

from shared.agents import Agent
from shared.disk import FULL
from shared.run_events import ErrorKind, RunCompleted, RunError, RunFailed, TerminalEvent
from shared.runs import LaunchOptions, RunRequest
from shared.settings import Settings
from worker.claude.process import CliNotStartedError
from worker.directories import AgentFaultError
from worker.pool import Pool
from worker.processes import Found, HowFound, Processes
from worker.projects import working_copy
from worker.recovery import Lost, step_at
from worker.revisions.checkouts import Checkouts
from worker.revisions.git import RevisionError
from worker.sessions import SessionGoneError, Sessions
from worker.turn import Reporter, Stop, Turn

_log = structlog.get_logger(__name__)


class Turns:
    """Runs turns on this host, each in the process that suits its conversation best.

    `note` is told the agent of each turn, and how its process was found; `heard` what the CLI said it had,
    where no request, project or revision has a part in that.
    """

    def __init__(
        self,
        settings: Settings,
        agents: Mapping[str, Agent],
        processes: Processes,
        pool: Pool,
        sessions: Sessions,
        checkouts: Checkouts,
        note: Callable[[str, HowFound], None] | None = None,
        heard: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self._note = note or (lambda _, __: None)
        self._heard = heard or (lambda _, __: None)
        self._settings = settings
        self._agents = agents
        self._processes = processes
        self._pool = pool
        self._sessions = sessions
        self._checkouts = checkouts

    async def run(self, request: RunRequest, reporter: Reporter, stop: Stop) -> None:
        """Run `request`: say its events as they come, and conclude with the terminal one.

        Returns when the process is kept for the next turn, or is gone with its tree.
        """
        agent = self._agent(request)
        if agent is None:
            await reporter.conclude(_not_served(request))
            return
        try:
            async with self._checkouts.at(agent, request.revision) as at:
                if at.revision:
                    reporter.say(step_at(at.revision))
                found = await self._processes.find(request, at)
                event = await self._take(found, request, reporter, stop)
                if event is None:  # a kept process had died unseen, and nobody has heard of it
                    found = await self._processes.make(request, at)
                    await self._take(found, request, reporter, stop)
        except RevisionError as error:
            await reporter.conclude(_no_revision(error))
        except SessionGoneError as error:
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.SESSION_GONE, str(error))))
        except AgentFaultError as error:
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.AGENT_UNAVAILABLE, str(error))))
        except (CliNotStartedError, OSError) as error:
            await reporter.conclude(not_started(error))

    async def recover(self, request: RunRequest, lost: Lost, reporter: Reporter, stop: Stop) -> None:
        """Go on with a turn whose worker was lost, from where `lost` says it stands; else as `run` does."""
        agent = self._agent(request)
        if agent is None:
            await reporter.conclude(_not_served(request))
            return
        try:
            async with self._checkouts.at(agent, request.revision, commit=lost.revision) as at:
                found, place = await self._processes.recover(request, at, lost)
        except RevisionError as error:
            await reporter.conclude(_no_revision(error))
            return
        except SessionGoneError as error:
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.SESSION_GONE, str(error))))
            return
        except AgentFaultError as error:
            await reporter.conclude(RunFailed(error=RunError(ErrorKind.AGENT_UNAVAILABLE, str(error))))
            return
        except (CliNotStartedError, OSError) as error:
            await reporter.conclude(not_started(error))
            return
        self._note(request.agent, found.how)
        turn = Turn(found, request, self._settings, reporter, stop, lost)
        try:
            event = await turn.run()
            if turn.is_clean and isinstance(event, RunCompleted) and event.finish == "stop":
                entries = [*place.transcript, *lost.transcript(request, place.newest, turn.answer)]
                await self._sessions.save_recovered(
                    request, turn.answer, place.session, entries, event.usage.cost_usd
                )
            await reporter.conclude(_by(found, event))
        finally:
            await self._pool.discard(found.process, is_clean=turn.is_clean, sweep=True)

    def _agent(self, request: RunRequest) -> Agent | None:
        agent = self._agents.get(request.agent)
        if agent is None:
            return None
        return working_copy(agent, self._settings.data_dir, request.tenant, request.project)

    async def _take(
        self, found: Found, request: RunRequest, reporter: Reporter, stop: Stop
    ) -> TerminalEvent | None:
        """Take one turn in the process found; `None`, with nothing said, when it was already dead."""
        self._note(request.agent, found.how)
        turn = Turn(found, request, self._settings, reporter, stop)
        process, is_kept = found.process, False
        try:
            event = await turn.run()
            if found.was_kept and turn.found_it_dead:
                return None
            if process.init and _is_plain(request):
                self._heard(request.agent, process.init)
            may_be_kept = turn.may_be_kept(event)
            if may_be_kept:
                await process.mirrors(turn.last_message)
            if may_be_kept or (turn.was_cut(event) and process.cut_off()):
                is_saved = await self._sessions.save(
                    request, turn.answer, turn.calls, process, event.usage.cost_usd
                )
                is_kept = may_be_kept and is_saved and self._pool.keep(process)
            await reporter.conclude(_by(found, event))
            return event
        finally:
            if not is_kept:
                await self._pool.discard(process, is_clean=turn.is_clean, sweep=turn.needs_sweep)


def _is_plain(request: RunRequest) -> bool:
    """Whether the CLI has what its agent gives it, and nothing of the client's: that is another's secret."""
    return not (request.tools or request.project or request.revision or request.options != LaunchOptions())


def _by(found: Found, event: TerminalEvent) -> TerminalEvent:
    """The end of a turn with the revision that took it."""
    revision = found.process.launch.revision
    if not revision or not isinstance(event, RunCompleted):
        return event
    return msgspec.structs.replace(event, revision=revision)


def not_started(error: Exception) -> RunFailed:
    """The end of a run whose CLI could not be started, in words for clients."""
    if isinstance(error, OSError) and error.errno in FULL:
        _log.error("storage_full", error=str(error))
        said = "The worker's disk is full or may only be read; its operator must make room."
        return RunFailed(error=RunError(ErrorKind.STORAGE_FULL, said))
    said = str(error)
    if isinstance(error, OSError):  # its own words name places on this host
        _log.error("cli_not_started", error=said)
        said = f"The agent could not be started: {error.strerror or type(error).__name__}."
    return RunFailed(error=RunError(ErrorKind.CLI_NOT_STARTED, said))


def _no_revision(error: RevisionError) -> RunFailed:
    return RunFailed(error=RunError(ErrorKind.REVISION_NOT_FOUND, str(error)))


def _not_served(request: RunRequest) -> RunFailed:
    said = f"This worker does not serve {request.agent!r}."
    return RunFailed(error=RunError(ErrorKind.AGENT_UNAVAILABLE, said))
