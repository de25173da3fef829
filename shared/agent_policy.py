"""What a worker does differently for one agent: from the operator's file, narrowed by the agent's own.

The operator's file (the setting `agents_file`) has a table for each agent's name and may widen. The agent's
own, `.claude/backline.toml` in its directory, describes the agent and may narrow what the operator allows:
whoever can write to the directory must not gain by it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from shared.agents import Agent
from shared.hosts import Listed, is_within
from shared.settings import (
    PERMISSION_MODES,
    AgentFiles,
    AgentNetwork,
    ClientRight,
    RevisionsAllowed,
    Settings,
)

OWN_FILE = Path(".claude", "backline.toml")
_MOST_BYTES = 64 * 1024
_FILES = ("read-only", "scratch", "read-write")
"""What an agent may do to its directory, from the least to the most."""
_NETWORKS = ("none", "listed", "host")
"""What an agent may reach, likewise."""
_VERSIONS = ("off", "tags", "any")


class PolicyError(ValueError):
    """A file that cannot be used; the message names it, and says what to change."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent's; what is unset is as in the settings of the same names. `may` is `client_may`."""

    description: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    permission_mode: Literal["dontAsk", "default", "acceptEdits", "plan", "bypassPermissions"] | None = None
    may: tuple[ClientRight, ...] | None = None
    agent_files: AgentFiles | None = None
    agent_versions: RevisionsAllowed | None = None
    agent_network: AgentNetwork | None = None
    agent_hosts: tuple[Listed, ...] | None = None
    agent_private_hosts: tuple[Listed, ...] | None = None
    warm: Annotated[int, Meta(ge=0, le=64)] | None = None
    on_worker_loss: Literal["resume", "fail", "rerun"] | None = None


class Applied(msgspec.Struct, frozen=True):
    """An agent as it is described, and the settings that hold for it."""

    agent: Agent
    settings: Settings


def policy_files(agent: Agent, settings: Settings) -> tuple[Path, ...]:
    """The files that decide about an agent, be they there or not."""
    own = agent.directory / OWN_FILE
    return (own,) if settings.agents_file is None else (settings.agents_file, own)


def apply_policy(agent: Agent, settings: Settings) -> Applied:
    """What holds for `agent`. Raises `PolicyError` for a file that is wrong or says more than it may."""
    operators = _of_operator(agent, settings)
    allowed = _with(settings, operators)
    path = agent.directory / OWN_FILE
    own = _policy(path, _read(path) or {})
    _check_narrows(path, own, allowed)
    description = operators.description or own.description or agent.description
    return Applied(msgspec.structs.replace(agent, description=description), _with(allowed, own))


def _of_operator(agent: Agent, settings: Settings) -> Policy:
    path = settings.agents_file
    if path is None:
        return Policy()
    tables = _read(path)
    if tables is None:
        raise PolicyError(f"The setting agents_file names {path}, and there is no such file.")
    policies = {name: _policy(path, table, name) for name, table in tables.items()}
    return policies.get(agent.name, Policy())


def _check_narrows(path: Path, own: Policy, allowed: Settings) -> None:
    """Raise `PolicyError` where an agent's own file asks for more than the operator allows."""
    modes = PERMISSION_MODES
    most_warm = 1 if allowed.warm is None else allowed.warm
    wider = {
        "permission_mode": own.permission_mode is not None
        and modes.index(own.permission_mode) > modes.index(allowed.permission_mode),
        "may": own.may is not None and not set(own.may) <= set(allowed.client_may),
        "agent_files": own.agent_files is not None
        and _FILES.index(own.agent_files) > _FILES.index(allowed.agent_files),
        "agent_versions": own.agent_versions is not None
        and _VERSIONS.index(own.agent_versions) > _VERSIONS.index(allowed.agent_versions),
        "agent_network": own.agent_network is not None
        and _NETWORKS.index(own.agent_network) > _NETWORKS.index(allowed.agent_network),
        "agent_hosts": allowed.agent_network != "host" and _is_wider(own.agent_hosts, allowed.agent_hosts),
        "agent_private_hosts": _is_wider(own.agent_private_hosts, allowed.agent_private_hosts),
        "warm": own.warm is not None and own.warm > most_warm,
        "on_worker_loss": own.on_worker_loss not in {None, "fail", allowed.on_worker_loss},
    }
    for name in (name for name, is_wider in wider.items() if is_wider):
        raise PolicyError(
            f"{path}: {name} asks for more than the operator allows;"
            " an agent's own file may only narrow (the setting agents_file may widen)."
        )


def _is_wider(own: tuple[str, ...] | None, allowed: tuple[str, ...]) -> bool:
    return own is not None and not all(is_within(entry, allowed) for entry in own)


def _with(settings: Settings, policy: Policy) -> Settings:
    given = {
        "permission_mode": policy.permission_mode,
        "client_may": policy.may,
        "agent_files": policy.agent_files,
        "agent_versions": policy.agent_versions,
        "agent_network": policy.agent_network,
        "agent_hosts": policy.agent_hosts,
        "agent_private_hosts": policy.agent_private_hosts,
        "warm": policy.warm,
        "on_worker_loss": policy.on_worker_loss,
    }
    changed = {name: value for name, value in given.items() if value is not None}
    return msgspec.structs.replace(settings, **changed) if changed else settings


def _policy(path: Path, table: Any, name: str = "") -> Policy:
    where = f"{path}, [{name}]" if name else str(path)
    try:
        return msgspec.convert(table, Policy)
    except msgspec.ValidationError as error:
        known = ", ".join(Policy.__struct_fields__)
        raise PolicyError(f"{where}: {error}. It may say: {known}.") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise PolicyError(f"{path} is longer than {_MOST_BYTES} bytes.")
        return tomllib.loads(content.decode())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PolicyError(f"Cannot read {path}: {error}.") from error
