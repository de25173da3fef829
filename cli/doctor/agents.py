"""Agents' directories: what the CLI would pass over without a word is said here."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.doctor.finding import Finding, failed, ok, warning
from shared.agent_policy import OWN_FILE, PolicyError, apply_policy
from shared.agents import Agent, AgentError, parse_agents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from shared.settings import Settings

_SETTINGS = (".claude/settings.json", ".claude/settings.local.json")
_RULES = ("allow", "deny", "ask")


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
        *_check_settings(agent),
        *_check_servers(agent, environ),
        *_check_front_matter(agent),
    ]
    return found or [ok(f"agent {agent.name}", f"{agent.directory}: {agent.description or 'no description'}")]


def servers_of(agent: Agent) -> dict[str, dict[str, Any]]:
    """The MCP servers of `.mcp.json` as far as they can be read."""
    try:
        servers = json.loads((agent.directory / ".mcp.json").read_bytes())["mcpServers"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    if not isinstance(servers, dict):
        return {}
    return {str(name): server for name, server in servers.items() if isinstance(server, dict)}


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


def _check_settings(agent: Agent) -> Iterator[Finding]:
    for relative in _SETTINGS:
        path = agent.directory / relative
        settings, why = _read(path)
        if why:
            said = f"{path} is passed over by the CLI without a word: {why}"
            yield failed(_name(agent), said, f"python3 -m json.tool {path}")
        permissions = (settings or {}).get("permissions", {})
        for rules in _RULES if isinstance(permissions, dict) else ():
            value = permissions.get(rules, [])
            if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
                said = f"{path}: permissions.{rules} must be a list of texts."
                yield failed(_name(agent), said, f"${{EDITOR:-vi}} {path}")
        if not isinstance(permissions, dict):
            yield failed(_name(agent), f"{path}: permissions must be an object.", f"${{EDITOR:-vi}} {path}")


def _check_servers(agent: Agent, environ: Mapping[str, str]) -> Iterator[Finding]:
    path = agent.directory / ".mcp.json"
    content, why = _read(path)
    if why:
        said = f"{path} is passed over by the CLI without a word: {why}"
        yield failed(_name(agent), said, f"python3 -m json.tool {path}")
    elif content is not None and not isinstance(content.get("mcpServers"), dict):
        said = f"{path} must hold an object `mcpServers`."
        yield failed(_name(agent), said, f"${{EDITOR:-vi}} {path}")
    for name, server in servers_of(agent).items():
        command = server.get("command")
        if command is None and "url" not in server:
            said = f"{path}: the server {name} has neither `command` nor `url`."
            yield failed(_name(agent), said, f"${{EDITOR:-vi}} {path}")
        elif (
            isinstance(command, str)
            and "$" not in command
            and not _is_there(command, agent.directory, environ)
        ):
            said = f"{path}: the program {command!r} of the server {name} is not there."
            yield failed(_name(agent), said, f"which {command}")


def _check_front_matter(agent: Agent) -> Iterator[Finding]:
    claude = agent.directory / ".claude"
    for path in _sorted([*claude.glob("skills/*/SKILL.md"), *claude.glob("agents/*.md")]):
        try:
            head = path.read_text("utf-8", errors="replace")[:4096]
        except OSError as error:
            yield failed(_name(agent), f"{path} cannot be read: {error.strerror}", f"chmod u+r {path}")
            continue
        matter = head.split("\n---", 1)[0] if head.startswith("---\n") else ""
        if "\ndescription:" not in matter:
            said = f"{path} has no `description` between two lines `---` at its top, so it is never used."
            yield failed(_name(agent), said, f"${{EDITOR:-vi}} {path}")


def _read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """An object of JSON and an empty text, or why there is none; a file that is not there is no trouble."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"{error}."
    if not isinstance(content, dict):
        return None, "it holds no object."
    return content, ""


def _is_there(command: str, directory: Path, environ: Mapping[str, str]) -> bool:
    if "/" in command:
        return os.access(directory / command, os.X_OK)
    return shutil.which(command, path=environ.get("PATH")) is not None


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths)[:200]


def _name(agent: Agent) -> str:
    return f"agent {agent.name}"
