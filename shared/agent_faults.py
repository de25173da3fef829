"""What is wrong with an agent's files: what the CLI would pass over without a word is said here."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.agents import Agent, read_object

_SETTINGS = (".claude/settings.json", ".claude/settings.local.json")
_RULES = ("allow", "deny", "ask")
_MOST_READ = 200


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong; `mend` is the command that shows it or puts it right."""

    said: str
    mend: str


def faults_of(agent: Agent, environ: Mapping[str, str]) -> list[Fault]:
    """What keeps an agent's files from doing what they should; `environ` says where programs are found."""
    return [*_in_settings(agent), *_in_servers(agent, environ), *_in_front_matter(agent)]


def servers_of(agent: Agent) -> dict[str, dict[str, Any]]:
    """The MCP servers of `.mcp.json` as far as they can be read."""
    try:
        servers = json.loads((agent.directory / ".mcp.json").read_bytes())["mcpServers"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    if not isinstance(servers, dict):
        return {}
    return {str(name): server for name, server in servers.items() if isinstance(server, dict)}


def _in_settings(agent: Agent) -> Iterator[Fault]:
    for relative in _SETTINGS:
        path = agent.directory / relative
        settings, why = read_object(path)
        if why:
            yield _passed_over(path, why)
        permissions = (settings or {}).get("permissions", {})
        for rules in _RULES if isinstance(permissions, dict) else ():
            value = permissions.get(rules, [])
            if not isinstance(value, list) or not all(isinstance(rule, str) for rule in value):
                yield Fault(f"{path}: permissions.{rules} must be a list of texts.", _edit(path))
        if not isinstance(permissions, dict):
            yield Fault(f"{path}: permissions must be an object.", _edit(path))


def _in_servers(agent: Agent, environ: Mapping[str, str]) -> Iterator[Fault]:
    path = agent.directory / ".mcp.json"
    content, why = read_object(path)
    if why:
        yield _passed_over(path, why)
    elif content is not None and not isinstance(content.get("mcpServers"), dict):
        yield Fault(f"{path} must hold an object `mcpServers`.", _edit(path))
    for name, server in servers_of(agent).items():
        command = server.get("command")
        if command is None and "url" not in server:
            yield Fault(f"{path}: the server {name} has neither `command` nor `url`.", _edit(path))
        elif (
            isinstance(command, str)
            and "$" not in command
            and not _is_there(command, agent.directory, environ)
        ):
            said = f"{path}: the program {command!r} of the server {name} is not there."
            yield Fault(said, f"which {command}")


def _in_front_matter(agent: Agent) -> Iterator[Fault]:
    claude = agent.directory / ".claude"
    for path in _sorted([*claude.glob("skills/*/SKILL.md"), *claude.glob("agents/*.md")]):
        try:
            with path.open(encoding="utf-8", errors="replace") as file:
                head = file.read(4096)
        except OSError as error:
            yield Fault(f"{path} cannot be read: {error.strerror}", f"chmod u+r {path}")
            continue
        matter = head.split("\n---", 1)[0] if head.startswith("---\n") else ""
        if "\ndescription:" not in matter:
            said = f"{path} has no `description` between two lines `---` at its top, so it is never used."
            yield Fault(said, _edit(path))


def _passed_over(path: Path, why: str) -> Fault:
    return Fault(f"{path} is passed over by the CLI without a word: {why}", f"python3 -m json.tool {path}")


def _edit(path: Path) -> str:
    return f"${{EDITOR:-vi}} {path}"


def _is_there(command: str, directory: Path, environ: Mapping[str, str]) -> bool:
    if "/" in command:
        return os.access(directory / command, os.X_OK)
    return shutil.which(command, path=environ.get("PATH")) is not None


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths)[:_MOST_READ]
