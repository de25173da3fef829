"""`backline agents`: which are served, whether a directory is sound, and a new one to begin with."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from cli.errors import CommandError
from cli.redis_in_use import Data, RedisUrl
from cli.tables import Json, print_json, print_table, say
from shared.agent_faults import faults_of
from shared.agent_policy import PolicyError, apply_policy
from shared.agent_reports import reports_on, servers_in, tools_in
from shared.agents import Agent, AgentError, claude_model_of, parse_agents
from shared.settings_sources import load_settings

if TYPE_CHECKING:
    from shared.agent_reports import Reports
    from shared.registry import Registry
    from shared.settings import Settings

agents = App(name="agents", help="Agents: list those served, check directories, make a new one.")

_ONLY_JSON = {"mcp_servers", "policies"}
"""What is too much for a table."""
_CLAUDE_MD = """\
# {title}

You are a helpful assistant. Say here who you are, whom you answer, and what you must never do.

What you know stands in `docs/`. Look an answer up there before you give it, and name the document it came
from. When the documents do not say, say so.
"""
_SETTINGS = """\
{
  "permissions": {
    "allow": ["Read(./**)", "Glob", "Grep"],
    "deny": ["Read(./.env)", "Read(./.env.*)"]
  }
}
"""
_DOCUMENT = "# About\n\nWrite down here what the agent should know.\n"
_SKILL = """\
---
name: summary
description: How to sum up a document. Use it when somebody asks for a summary.
---

Three sentences at most: what it is about, what it says, and what follows from it for the reader.
"""


@agents.command(name="list")
def list_(*, redis_url: RedisUrl = None, data: Data = None, json: Json = False) -> None:
    """List the agents that workers serve; where no Redis runs, those of the settings.

    `faults` counts what is wrong with an agent's files; `--json` has the words, and the tools, MCP servers
    and policy of each.
    """
    flags = {"redis_url": redis_url, "data_dir": data}
    settings = load_settings(flags, os.environ, Path.cwd()).settings
    known = asyncio.run(_registry(settings))
    rows = _served(*known) if known is not None else _local(settings)
    if json:
        print_json(rows)
    elif not rows:
        say(
            "No agent is served."
            if known is not None
            else "The Redis of `backline up` does not run, and the settings name no agent."
        )
    else:
        if known is None:
            say("The Redis of `backline up` does not run; these are the agents of the settings:")
        columns = tuple(name for name in rows[0] if name not in _ONLY_JSON)
        print_table(columns, [tuple(_cell(row[column]) for column in columns) for row in rows])


@agents.command
def check(
    directories: Annotated[list[str] | None, Parameter(negative=())] = None,
    /,
    *,
    mcp: Annotated[bool, Parameter(negative=())] = False,
    json: Json = False,
) -> None:
    """Check agents' directories; the exit code is 1 if one cannot work.

    Parameters
    ----------
    directories
        Directories, or NAME=DIR; if not given, those of the settings.
    mcp
        Start each MCP server for a moment too.
    """
    from cli.doctor.command import check_agents, report  # noqa: PLC0415 - imported here so that --help is quick

    loaded = load_settings({}, os.environ, Path.cwd())
    entries = directories or loaded.settings.agents
    if not entries:
        raise CommandError("Give a directory: `backline agents check path/to/agent`.", code=2)
    found = check_agents(entries, loaded.settings, loaded.environ, starts_servers=mcp)
    if not report(found, is_json=json):
        raise CommandError("An agent cannot work as it is.")


@agents.command
def new(name: str, /, *, directory: str | None = None, skill: bool = False) -> None:
    """Write a small agent that works, to go on from.

    Parameters
    ----------
    name
        Its name, which clients give as `model`.
    directory
        Where to put it; if not given, NAME in the working directory.
    skill
        With a skill.
    """
    place = Path(directory or name).expanduser().absolute()
    if place.exists():
        raise CommandError(f"{place} is already there; give another --directory.", code=2)
    files = {
        "CLAUDE.md": _CLAUDE_MD.format(title=name.replace("-", " ").capitalize()),
        ".claude/settings.json": _SETTINGS,
        "docs/about.md": _DOCUMENT,
        **({".claude/skills/summary/SKILL.md": _SKILL} if skill else {}),
    }
    try:
        place.mkdir(parents=True)
        (agent,) = parse_agents([f"{name}={place}"])
    except AgentError:
        place.rmdir()
        raise
    except OSError as error:
        raise CommandError(f"Cannot make {place}: {error.strerror}.") from error
    for relative, text in files.items():
        path = place / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    given = place if agent.name == place.name else f"{agent.name}={place}"
    say(
        f"Made {place}. Say in its CLAUDE.md what it is for, and serve it:\n\n  backline up --agent {given}\n"
    )
    say(f"or try it without an account, with canned replies:\n\n  backline demo --agent {given}")


async def _registry(settings: Settings) -> tuple[Registry, Reports] | None:
    """What workers have announced, and tell of their agents; `None` where no Redis is. None is started."""
    from redis.exceptions import RedisError  # noqa: PLC0415 - imported here so that --help is quick

    from cli.doctor.redis_server import find_redis  # noqa: PLC0415
    from shared.redis import connect  # noqa: PLC0415
    from shared.registry import RegistryStore  # noqa: PLC0415

    url, finding = await find_redis(settings)
    if url is None:
        if finding.state == "failed":
            raise CommandError(finding.said)
        return None
    redis = connect(url)
    try:
        store = RegistryStore(redis)
        known = await store.look()
        return known, await store.reports(known.workers)
    except (RedisError, OSError) as error:
        raise CommandError(f"Redis does not answer: {error}") from error
    finally:
        await redis.aclose()


def _served(known: Registry, reports: Reports) -> list[dict[str, Any]]:
    from shared.registry import AgentRecord  # noqa: PLC0415 - imported here so that --help is quick

    rows = []
    for name in known.served:
        workers = [worker for worker in known.workers if name in worker.agents]
        described = known.agents.get(name) or AgentRecord(name, "", 0)
        told = reports_on(name, reports)
        rows.append(
            {
                "agent": name,
                "model": described.model,
                "workers": len(workers),
                "hosts": ", ".join(sorted({worker.host for worker in workers})),
                "slots": sum(worker.slots for worker in workers),
                "busy": sum(worker.busy for worker in workers),
                "tools": tools_in(told.values()),
                "mcp_servers": servers_in(described.mcp_servers, told.values()),
                "faults": list(dict.fromkeys(said for each in told.values() for said in each.faults)),
                "policies": {worker: report.policy for worker, report in told.items()},
                "description": described.description,
            }
        )
    return rows


def _local(settings: Settings) -> list[dict[str, Any]]:
    return [_row(agent, settings) for agent in parse_agents(settings.agents)]


def _row(agent: Agent, settings: Settings) -> dict[str, Any]:
    faults = [fault.said for fault in faults_of(agent, os.environ)]
    try:
        agent = apply_policy(agent, settings).agent
    except PolicyError as error:
        faults.insert(0, str(error))
    return {
        "agent": agent.name,
        "model": claude_model_of(agent.directory),
        "directory": str(agent.directory),
        "faults": faults,
        "description": agent.description,
    }


def _cell(value: object) -> str:
    """A list as how much there is of it; what a worker does not know yet as a question mark."""
    if value is None:
        return "?"
    return str(len(value)) if isinstance(value, list | tuple) else str(value)
