"""`backline doctor`: all that requests depend on, looked at; and its report."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from cli.doctor import claude, host
from cli.doctor.agents import check_agent, find_agents
from cli.doctor.finding import Finding, failed, ok, warning
from cli.doctor.mcp import check_servers
from cli.doctor.redis_server import check_redis, find_redis
from cli.doctor.running import compare_credentials, find_running
from cli.tables import print_json
from shared.settings_sources import SettingsError, find_problems, find_strays, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from shared.settings import Settings
    from shared.settings_sources import Loaded

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "red")}


def examine(flags: Mapping[str, object], *, is_online: bool, starts_servers: bool) -> list[Finding]:
    """Look at everything; nothing is started but what was asked for, and that ends here.

    What runs in the background of this directory is looked at as it was started. Raises `SettingsError` when
    a flag is at fault.
    """
    cwd = Path.cwd()
    environ, running = find_running(cwd)
    settings = check_settings(environ, cwd)
    try:
        loaded = load_settings(flags, environ, cwd)
    except SettingsError:
        if all(finding.state != "failed" for finding in settings):
            raise
        return [*running, *settings]
    if running:
        agents, _ = find_agents(loaded.settings.agents)
        running += compare_credentials(loaded.environ, [agent.directory for agent in agents], cwd)
    looked_at = asyncio.run(_examine(loaded, is_online=is_online, starts_servers=starts_servers))
    return [*running, *settings, *looked_at]


def check_settings(environ: Mapping[str, str], cwd: Path) -> list[Finding]:
    """What is wrong with the settings themselves."""
    found = [failed("settings", problem, "backline config check") for problem in find_problems(environ, cwd)]
    found += [
        warning("settings", f"Nobody reads the variable {name}.", f"export {meant}=…")
        for name, meant in find_strays(environ).items()
    ]
    return found or [ok("settings", "all can be used")]


def check_agents(
    entries: Sequence[str], settings: Settings, environ: Mapping[str, str], *, starts_servers: bool
) -> list[Finding]:
    """Check agents alone, given as `DIR` or `NAME=DIR`."""
    return asyncio.run(_agents(entries, settings, environ, starts_servers=starts_servers))


def report(findings: Sequence[Finding], *, is_json: bool, console: Console | None = None) -> bool:
    """Print the findings; gives whether nothing has failed."""
    is_well = all(finding.state != "failed" for finding in findings)
    if is_json:
        print_json({"ok": is_well, "findings": findings})
        return is_well
    from rich.console import Console  # noqa: PLC0415 - imported here so that --help is quick
    from rich.text import Text  # noqa: PLC0415

    out = console or Console(highlight=False)
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        mark, style = _MARKS[finding.state]
        out.print(Text.assemble((mark, style), f" {finding.name:{width}}  {finding.said}"), soft_wrap=True)
        if finding.mend:
            out.print(Text(f"  {'':{width}}  → {finding.mend}"), style=style, soft_wrap=True)
    return is_well


async def _examine(loaded: Loaded, *, is_online: bool, starts_servers: bool) -> list[Finding]:
    settings, environ = loaded.settings, loaded.environ
    agents, _ = find_agents(settings.agents)
    ask = claude.check_model if is_online else claude.check_credentials
    found = [await asyncio.to_thread(claude.check_cli, settings)]
    found.append(await asyncio.to_thread(ask, settings, environ, agents))
    url, server = await find_redis(settings)
    found += [server, *(await check_redis(url) if url is not None else [])]
    with tempfile.TemporaryDirectory(prefix="backline-doctor-", ignore_cleanup_errors=True) as private:
        elsewhere = msgspec.structs.replace(settings, data_dir=Path(private))  # the probe writes there
        found.append(await asyncio.to_thread(host.check_sandbox, elsewhere, environ, agents))
    found += [host.check_permissions(settings), await host.check_exposure(settings, url)]
    found += [host.check_secrets(Path.cwd(), settings), await host.check_port(settings)]
    found += [host.check_disk(settings), host.check_memory(settings)]
    if not settings.agents:
        found.append(warning("agents", "None are given.", "backline agents new my-agent"))
    return [*found, *await _agents(settings.agents, settings, environ, starts_servers=starts_servers)]


async def _agents(
    entries: Sequence[str], settings: Settings, environ: Mapping[str, str], *, starts_servers: bool
) -> list[Finding]:
    agents, found = find_agents(entries)
    for agent in agents:
        found += check_agent(agent, environ, settings)
        if starts_servers:
            with tempfile.TemporaryDirectory(
                prefix="backline-doctor-", ignore_cleanup_errors=True
            ) as private:
                found += await check_servers(agent, settings, environ, Path(private))
    return found
