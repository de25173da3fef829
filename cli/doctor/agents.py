"""Agents' directories: what is to be said of each before it is served."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from cli.doctor.finding import Finding, failed, ok, warning
from shared.agent_faults import faults_of
from shared.agent_policy import OWN_FILE, PolicyError, apply_policy
from shared.agents import Agent, AgentError, parse_agents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.settings import Settings


def find_agents(entries: Sequence[str]) -> tuple[tuple[Agent, ...], list[Finding]]:
    """The agents that can be served, and what is wrong with the others."""
    good: list[str] = []
    found: list[Finding] = []
    for entry in entries:
        try:
            parse_agents([*good, entry])
            good.append(entry)
        except AgentError as error:
            found.append(failed(f"agent {entry}", str(error), _mend(entry)))
    return parse_agents(good), found


def check_agent(agent: Agent, environ: Mapping[str, str], settings: Settings) -> list[Finding]:
    """What is to be said of an agent's directory; one line if all is well."""
    found = [
        *_check_policy(agent, settings),
        *_check_instructions(agent),
        *_check_owner(agent),
        *(failed(_name(agent), fault.said, fault.mend) for fault in faults_of(agent, environ)),
    ]
    return found or [ok(f"agent {agent.name}", f"{agent.directory}: {agent.description or 'no description'}")]


def _mend(entry: str) -> str:
    """A directory that is missing can be made; for any other fault, where the entry comes from."""
    place = Path(entry.rpartition("=")[2]).expanduser()
    if place.exists():
        return "backline config show agents --origin"
    return f"ls {shlex.quote(str(place.absolute().parent))}   (`backline agents new` makes one)"


def _check_policy(agent: Agent, settings: Settings) -> Iterator[Finding]:
    try:
        apply_policy(agent, settings)
    except PolicyError as error:
        yield failed(_name(agent), str(error), f"${{EDITOR:-vi}} {agent.directory / OWN_FILE}")


def _check_instructions(agent: Agent) -> Iterator[Finding]:
    if not any((agent.directory / name).exists() for name in ("CLAUDE.md", ".claude")):
        said = f"{agent.directory} has neither a CLAUDE.md nor .claude/: this is the bare Claude Code."
        yield warning(
            _name(agent), said, f"echo '# {agent.name}' > {shlex.quote(str(agent.directory / 'CLAUDE.md'))}"
        )


def _check_owner(agent: Agent) -> Iterator[Finding]:
    owner = agent.directory.stat().st_uid
    if owner != os.geteuid():
        said = f"{agent.directory} is another user's; in the sandbox it cannot be written."
        yield warning(_name(agent), said, f"sudo chown -R {os.geteuid()} {agent.directory}")


def _name(agent: Agent) -> str:
    return f"agent {agent.name}"
