"""What each worker tells of its agents, for people to look at: what they have, what holds, what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

MOST_NAMES, LONGEST_NAME = 300, 120
"""Bounds of what is told: names of tools and servers are agents' own words."""
MOST_FAULTS, LONGEST_FAULT = 20, 400


class McpServer(msgspec.Struct, frozen=True):
    """An MCP server, and how the CLI found it: `connected`, `failed`, `pending`, `needs-auth` (CLI 2.1)."""

    name: str
    status: str = ""


class Inventory(msgspec.Struct, frozen=True):
    """What the CLI said it had when it last began a turn of the agent."""

    tools: tuple[str, ...] = ()
    mcp_servers: tuple[McpServer, ...] = ()


class AgentPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for an agent on one host.

    What has the name of a setting is that setting, as the operator's file and the agent's own have changed
    it. `effort`, `allow`, `ask` and `deny` are the agent's own settings of Claude Code; `sandbox` is the one
    that there is.
    """

    permission_mode: str = ""
    client_may: tuple[str, ...] = ()
    sandbox: str = ""
    agent_files: str = ""
    agent_network: str = ""
    agent_hosts: tuple[str, ...] = ()
    agent_versions: str = ""
    credential_proxy: bool = False
    allowed_models: tuple[str, ...] = ()
    max_turns: int = 0
    run_timeout_s: float = 0.0
    on_worker_loss: str = ""
    effort: str = ""
    allow: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


class AgentReport(msgspec.Struct, frozen=True):
    """What one worker tells of one agent; `inventory` is `None` until it has begun a turn of it."""

    name: str
    policy: AgentPolicy = AgentPolicy()
    faults: tuple[str, ...] = ()
    """What is wrong with the agent's files, in words."""
    inventory: Inventory | None = None


Reports = Mapping[str, Mapping[str, AgentReport]]
"""By worker and agent."""


def encode_reports(reports: Iterable[AgentReport]) -> bytes:
    """What a worker tells, as it is kept. Raises `UnicodeEncodeError` for words that are not Unicode."""
    return msgspec.msgpack.encode(list(reports))


def decode_reports(data: bytes) -> dict[str, AgentReport]:
    """Reports by agent. Raises `msgspec.MsgspecError` or `UnicodeDecodeError` for what is none."""
    return {report.name: report for report in _decoder.decode(data)}


def reports_on(agent: str, reports: Reports) -> dict[str, AgentReport]:
    """What is told of one agent, by worker."""
    return {worker: told[agent] for worker, told in sorted(reports.items()) if agent in told}


def tools_in(told: Iterable[AgentReport]) -> tuple[str, ...] | None:
    """All tools that an agent was seen with; `None` when no worker has begun a turn of it yet."""
    seen = [report.inventory for report in told if report.inventory is not None]
    return tuple(dict.fromkeys(tool for each in seen for tool in each.tools)) if seen else None


def servers_in(names: Iterable[str], told: Iterable[AgentReport]) -> tuple[McpServer, ...]:
    """An agent's MCP servers: those that it sets up (`names`), then others; with all their statuses."""
    found: dict[str, dict[str, None]] = {name: {} for name in names}
    for report in told:
        for server in report.inventory.mcp_servers if report.inventory is not None else ():
            found.setdefault(server.name, {})[server.status] = None
    return tuple(McpServer(name, ", ".join(filter(None, statuses))) for name, statuses in found.items())


_decoder = msgspec.msgpack.Decoder(list[AgentReport])
