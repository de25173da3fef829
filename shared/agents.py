"""Agents: directories with a Claude Code set-up, and the names clients call them by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_LONGEST = 64
_CLAUDE_MODEL = re.compile(
    r"(?:claude-[a-z0-9.-]{1,80}|(?:best|default|haiku|opus|opusplan|sonnet))(?:\[1m\])?"
)
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
SETUP_FILES = (".claude/settings.json", ".claude/settings.local.json", ".mcp.json")
"""Files of an agent's that hold an object of JSON, if they are there."""
CLAUDE_ALIASES = ("haiku", "opus", "sonnet")
"""Model names the CLI resolves to its newest model of that family (CLI 2.1)."""

_MOST_SHOWN, _LONGEST_SHOWN = 50, 80


class AgentError(ValueError):
    """An agent that cannot be served; the message says what to change."""


class Agent(msgspec.Struct, frozen=True):
    """An agent as the worker's host knows it."""

    name: str
    directory: Path
    description: str = ""
    revision: str = ""
    """The commit whose files these are; empty for the agent's own directory, as it now is."""


def is_claude_model(name: str) -> bool:
    """Whether `name` is a Claude model id or alias, rather than an agent."""
    return _CLAUDE_MODEL.fullmatch(name) is not None


def is_revision(name: str) -> bool:
    """Whether `name` could be a git tag, a branch or a commit; never an option, a range or a path."""
    return _REVISION.fullmatch(name) is not None and ".." not in name


def parse_agents(entries: Sequence[str]) -> tuple[Agent, ...]:
    """Read entries `DIR` or `NAME=DIR` into agents, in order.

    Raises `AgentError` when a directory is not there, a name cannot be a model name, or one is taken twice.
    """
    agents = tuple(_parse(entry) for entry in entries)
    seen: dict[str, Path] = {}
    for agent in agents:
        if agent.name in seen:
            raise AgentError(
                f"Two agents are called {agent.name!r}: {seen[agent.name]} and {agent.directory}."
                " Give one another name with --agent NAME=DIR."
            )
        seen[agent.name] = agent.directory
    return agents


def read_object(path: Path) -> tuple[dict[str, Any] | None, str]:
    """An object of JSON and an empty text, or why there is none; a file that is not there is no trouble.

    Nor is one without a word, which leaves nothing to be passed over.
    """
    try:
        data = path.read_bytes()
        content = json.loads(data) if data.strip() else {}
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"it cannot be read: {error.strerror}."
    except (ValueError, RecursionError) as error:
        return None, f"it is no JSON: {error}."
    if not isinstance(content, dict):
        return None, "it holds no object."
    return content, ""


def skills_of(directory: Path) -> tuple[str, ...]:
    """Names of the skills in an agent's directory."""
    return _names(path.parent for path in (directory / ".claude" / "skills").glob("*/SKILL.md"))


def subagents_of(directory: Path) -> tuple[str, ...]:
    """Names of the sub-agents in an agent's directory."""
    return _names(path.with_suffix("") for path in (directory / ".claude" / "agents").glob("*.md"))


def mcp_servers_of(directory: Path) -> tuple[str, ...]:
    """Names of the MCP servers that the agent's `.mcp.json` sets up; none when it cannot be read."""
    try:
        setup = msgspec.json.decode((directory / ".mcp.json").read_bytes(), type=_McpSetup)
    except (OSError, msgspec.DecodeError):
        return ()
    return _names(Path(name) for name in setup.servers)


def claude_model_of(directory: Path) -> str:
    """The Claude model that an agent's own settings choose; empty when they leave it to the CLI.

    The CLI lets `settings.local.json` win, and passes over a file that is not valid.
    """
    models = [settings.model for settings in _settings_of(directory) if settings.model]
    return models[0][:_LONGEST_SHOWN] if models else ""


def effort_of(directory: Path) -> str:
    """How hard the model shall think by the agent's own settings (`effortLevel`); empty when unsaid."""
    efforts = [settings.effort for settings in _settings_of(directory) if settings.effort]
    return efforts[0][:_LONGEST_SHOWN] if efforts else ""


def tool_rules_of(directory: Path) -> ToolRules:
    """The rules of an agent's own settings; the CLI adds those of both files together."""
    found = [settings.permissions for settings in _settings_of(directory)]
    return ToolRules(
        allow=_shown(rule for rules in found for rule in rules.allow),
        ask=_shown(rule for rules in found for rule in rules.ask),
        deny=_shown(rule for rules in found for rule in rules.deny),
    )


class ToolRules(msgspec.Struct, frozen=True):
    """Which uses of tools Claude Code allows, asks about and denies, such as `Read(./**)`."""

    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class _CliSettings(msgspec.Struct, frozen=True):
    model: str = ""
    effort: str = msgspec.field(default="", name="effortLevel")
    permissions: ToolRules = ToolRules()


def _settings_of(directory: Path) -> Iterator[_CliSettings]:
    for name in ("settings.local.json", "settings.json"):
        try:
            data = (directory / ".claude" / name).read_bytes()
            yield msgspec.json.decode(data, type=_CliSettings)
        except (OSError, msgspec.DecodeError):
            continue


class _McpSetup(msgspec.Struct, frozen=True):
    servers: dict[str, Any] = msgspec.field(default_factory=dict, name="mcpServers")


def _names(paths: Iterable[Path]) -> tuple[str, ...]:
    names = (path.name.encode("utf-8", "replace").decode() for path in paths)  # a file system takes any bytes
    return tuple(sorted(name[:_LONGEST_SHOWN] for name in names)[:_MOST_SHOWN])


def _shown(rules: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule[:_LONGEST_SHOWN] for rule in rules))[:_MOST_SHOWN]


def _parse(entry: str) -> Agent:
    name, separator, place = entry.partition("=")
    if not separator or "/" in name:
        name, place = "", entry
    try:
        directory = Path(place).expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # a `~name` without a home, or no name at all
        raise AgentError(f"The agent directory {place!r} is no place: {error}") from error
    if not directory.is_dir():
        said = "is not a directory" if directory.exists() else "is not there"
        raise AgentError(f"The agent directory {place!r} {said}.")
    name = name or _name_of(directory)
    if _NAME.fullmatch(name) is None:
        raise AgentError(
            f"{name!r} cannot be an agent's name: use 1 to 64 lower-case letters, digits, '.', '_' or '-',"
            f" for example {_example_of(name)}; as a flag, --agent {_example_of(name)}=DIR."
        )
    if is_claude_model(name):
        raise AgentError(
            f"{name!r} is a Claude model's name; call the agent something else: --agent NAME=DIR."
        )
    return Agent(name=name, directory=directory, description=_description_of(directory))


def _name_of(directory: Path) -> str:
    return _allowed(directory.name)


def _example_of(name: str) -> str:
    return _allowed(name)[:_LONGEST].strip("-._") or "my-agent"


def _allowed(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")


def _description_of(directory: Path) -> str:
    """The first heading or line of the agent's CLAUDE.md, at most 200 characters."""
    for place in (directory / "CLAUDE.md", directory / ".claude" / "CLAUDE.md"):
        try:
            with place.open(encoding="utf-8", errors="replace") as file:
                head = file.read(4096)
        except OSError:
            continue
        lines = (line.strip().lstrip("#").strip() for line in head.splitlines())
        if first := next((line for line in lines if line), ""):
            return first[:200]
    return ""
