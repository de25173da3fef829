"""What this worker tells of its agents: what their CLI has, what holds for them, what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from shared.agent_faults import faults_of
from shared.agent_reports import (
    LONGEST_FAULT,
    LONGEST_NAME,
    MOST_FAULTS,
    MOST_NAMES,
    AgentPolicy,
    AgentReport,
    Inventory,
    McpServer,
)
from shared.agents import Agent, effort_of, tool_rules_of
from worker.claude.lines import decode_init
from worker.fingerprint import Fingerprints
from worker.policies import Policies


class AgentReports:
    """Gathers the reports; an agent's files are read again when they have changed.

    `environ` is where programs of MCP servers are looked for.
    """

    def __init__(
        self,
        agents: Mapping[str, Agent],
        policies: Policies,
        environ: Mapping[str, str],
        cli: Path,
        *,
        is_boxed: bool,
        has_gate: bool,
    ) -> None:
        self._agents = agents
        self._policies = policies
        self._environ = environ
        self._is_boxed = is_boxed
        self._has_gate = has_gate
        self._now = Fingerprints(cli)
        self._seen: dict[str, str] = {}
        self._faults: dict[str, tuple[str, ...]] = {}
        self._inventories: dict[str, Inventory] = {}

    def hear(self, agent: str, init: bytes) -> None:
        """Note the line with which the CLI began a turn of an agent to which no request added anything."""
        try:
            said = decode_init.decode(init)
        except (ValueError, RecursionError):
            return
        self._inventories[agent] = Inventory(
            tools=tuple(name[:LONGEST_NAME] for name in said.tools[:MOST_NAMES]),
            mcp_servers=tuple(
                McpServer(each.name[:LONGEST_NAME], each.status[:LONGEST_NAME])
                for each in said.mcp_servers[:MOST_NAMES]
            ),
        )

    async def all(self) -> list[AgentReport]:
        """A report for each agent, as they now are."""
        return [await self._on(agent) for agent in self._agents.values()]

    async def _on(self, agent: Agent) -> AgentReport:
        name = agent.name
        now = await asyncio.to_thread(self._now.of, agent.directory)  # it may hold thousands of files
        if now != self._seen.get(name):
            if name in self._seen:  # what the CLI had may no longer be what it has
                self._inventories.pop(name, None)
            self._seen[name] = now
            self._faults[name] = await asyncio.to_thread(self._look_for_faults, agent)
        bad_policy = self._policies.fault_of(name)
        return AgentReport(
            name=name,
            policy=self._policy(agent),
            faults=(*([bad_policy[:LONGEST_FAULT]] if bad_policy else ()), *self._faults[name]),
            inventory=self._inventories.get(name),
        )

    def _look_for_faults(self, agent: Agent) -> tuple[str, ...]:
        try:
            faults = faults_of(agent, self._environ)[:MOST_FAULTS]
        except (OSError, ValueError) as error:  # of names that no operating system takes
            return (f"Its files cannot be looked at: {error}."[:LONGEST_FAULT],)
        # Names in JSON may be no Unicode.
        return tuple(fault.said.encode("utf-8", "replace").decode()[:LONGEST_FAULT] for fault in faults)

    def _policy(self, agent: Agent) -> AgentPolicy:
        settings = self._policies.of(agent.name)
        rules = tool_rules_of(agent.directory)
        return AgentPolicy(
            permission_mode=settings.permission_mode,
            client_may=settings.client_may,
            sandbox="bubblewrap" if self._is_boxed else "none",
            agent_files=settings.agent_files,
            agent_network=settings.agent_network,
            agent_hosts=settings.agent_hosts if settings.agent_network == "listed" else (),
            agent_versions=settings.agent_versions,
            credential_proxy=self._has_gate,
            allowed_models=settings.allowed_models,
            max_turns=settings.max_turns,
            run_timeout_s=settings.run_timeout_s,
            on_worker_loss=settings.on_worker_loss,
            effort=effort_of(agent.directory),
            **msgspec.structs.asdict(rules),
        )
