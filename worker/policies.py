"""What holds for each agent of this worker, looked at again when its files change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import structlog

from shared.agent_policy import Applied, PolicyError, apply_policy, policy_files
from shared.agents import Agent
from shared.settings import Settings

_FRESH_S = 0.5

_log = structlog.get_logger(__name__)

Seen = tuple[tuple[str, int, int], ...]


class Policies:
    """The settings that hold for each agent. A file that turns bad is told in the log, and changes nothing.

    Raises `PolicyError` when a file is bad from the start. Without a sandbox (`is_boxed`) no agent's
    directory can be kept from it, nor can it be kept off a network; without a credential proxy (`has_gate`)
    it needs one.
    """

    def __init__(
        self, settings: Settings, agents: Mapping[str, Agent], *, is_boxed: bool, has_gate: bool = True
    ) -> None:
        self._settings = settings
        self._agents = agents
        self._is_boxed = is_boxed
        self._has_gate = has_gate
        self._looked_at = dict.fromkeys(agents, time.monotonic())
        self._seen = {name: self._look(agent) for name, agent in agents.items()}
        self._faults: dict[str, str] = {}
        self._applied = {name: self._apply(agent) for name, agent in agents.items()}

    def of(self, name: str) -> Settings:
        """The settings for an agent, at most half a second old; those of the worker for another's."""
        return self._fresh(name).settings if name in self._agents else self._settings

    def described(self) -> list[Agent]:
        """The agents as they are to be announced."""
        return [self._fresh(name).agent for name in self._agents]

    def fault_of(self, name: str) -> str:
        """What is wrong with a file that was changed and is not followed; empty when nothing is."""
        self._fresh(name)
        return self._faults.get(name, "")

    def _fresh(self, name: str) -> Applied:
        now = time.monotonic()
        if now - self._looked_at[name] >= _FRESH_S:
            self._looked_at[name] = now
            seen = self._look(self._agents[name])
            # What an agent's own file narrows stays so while its directory is away.
            if self._agents[name].directory.is_dir() and seen != self._seen[name]:
                self._seen[name] = seen
                self._read_again(name)
        return self._applied[name]

    def _read_again(self, name: str) -> None:
        try:
            self._applied[name] = self._apply(self._agents[name])
            self._faults.pop(name, None)
            _log.info("policy_changed", agent=name)
        except PolicyError as error:
            self._faults[name] = f"What was there before still holds: {error}"
            _log.warning("policy_not_changed", agent=name, because=str(error))

    def _apply(self, agent: Agent) -> Applied:
        applied = apply_policy(agent, self._settings)
        if applied.settings.agent_files != "read-write" and not self._is_boxed:
            said = f"Only a sandbox can make agent_files {applied.settings.agent_files}, and there is none"
            raise PolicyError(f"{said} (agent {agent.name}).")
        network = applied.settings.agent_network
        if network != "host" and not self._is_boxed:
            said = f"Only a sandbox can keep an agent off the network (agent_network {network})"
            raise PolicyError(f"{said}, and there is none (agent {agent.name}).")
        if network == "none" and not self._has_gate:
            said = "With agent_network none the model is reached by the credential proxy alone"
            raise PolicyError(f"{said}, and there is none (agent {agent.name}).")
        return applied

    def _look(self, agent: Agent) -> Seen:
        return tuple(found for path in policy_files(agent, self._settings) if (found := _stat(path)))


def _stat(path: Path) -> tuple[str, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return str(path), stat.st_mtime_ns, stat.st_size
