"""Whether agents' directories can be used: what is wrong with one keeps its agent out of service."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from shared.agents import SETUP_FILES, Agent, read_object
from worker.claude.process import CliNotStartedError

_FRESH_S = 0.5

_log = structlog.get_logger(__name__)

_Seen = tuple[tuple[int, int, int] | None, ...]


class AgentFaultError(CliNotStartedError):
    """No CLI may be started in the directory; the message says why, in words for clients."""


class Directories:
    """Looks after the directories of this worker's agents, each twice a second at most.

    Methods take any name; of an agent that is not this worker's nothing is wrong.
    """

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self._agents = agents
        self._looked_at: dict[str, float] = {}
        self._seen: dict[str, _Seen] = {}
        self._faults: dict[str, str] = {}

    def fault(self, name: str, *, at_once: bool = False) -> str:
        """Why the agent cannot be run, in words for clients; empty when it can. `at_once` looks anew."""
        agent = self._agents.get(name)
        if agent is None:
            return ""
        now = time.monotonic()
        if at_once or now - self._looked_at.get(name, -_FRESH_S) >= _FRESH_S:
            self._looked_at[name] = now
            self._look(agent)
        return self._faults.get(name, "")

    def is_usable(self, name: str) -> bool:
        """Whether the agent can be run."""
        return not self.fault(name)

    @property
    def usable(self) -> tuple[str, ...]:
        """Names of the agents that can be run."""
        return tuple(name for name in self._agents if not self.fault(name))

    @property
    def faults(self) -> dict[str, str]:
        """Why the others cannot."""
        return {name: fault for name in self._agents if (fault := self.fault(name))}

    def _look(self, agent: Agent) -> None:
        seen = _seen(agent.directory)
        if seen == self._seen.get(agent.name) and agent.name not in self._faults:
            return
        fault, before = fault_of(agent.directory), self._faults.pop(agent.name, "")
        self._seen[agent.name] = seen
        if fault:
            self._faults[agent.name] = fault
        if fault and not before:
            _log.warning("agent_withdrawn", agent=agent.name, directory=str(agent.directory), because=fault)
        elif before and not fault:
            _log.info("agent_is_back", agent=agent.name, directory=str(agent.directory))


def fault_of(directory: Path) -> str:
    """Why no CLI may be started in `directory`, in words for clients; empty when nothing is wrong.

    The CLI (2.1) passes over settings and servers that it cannot read without a word, and with them over
    what they forbid.
    """
    if not os.path.lexists(directory):
        return "Its directory is not there."
    if not directory.is_dir():
        return "What should be its directory is none."
    if not os.access(directory, os.R_OK | os.X_OK):
        return "Its directory cannot be read."
    for name in SETUP_FILES:
        _, why = read_object(directory / name)
        if why:
            return f"Its {name} cannot be used: {why}"
    return ""


def _seen(directory: Path) -> _Seen:
    """What changes when a fault comes or goes."""
    return tuple(map(_stat, (directory, *(directory / name for name in SETUP_FILES))))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_ctime_ns, stat.st_size
