"""What a worker needs before it starts: its agents, the CLI, and what keeps them apart from the host."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.agent_policy import PolicyError
from shared.agents import Agent, parse_agents
from shared.settings import Settings
from worker.claude.launch import CliNotFoundError, find_cli, version_of
from worker.gate.upstream import GateError, find_upstream
from worker.policies import Policies
from worker.sandbox.bubblewrap import Bubblewrap, SandboxError
from worker.sandbox.choice import choose_sandbox

_MEETING_S = 10.0
_MEET_AGAIN_S = 0.5

_log = structlog.get_logger(__name__)


class WorkerStartError(Exception):
    """The worker cannot start; the message says what to change."""


class Equipment(msgspec.Struct, frozen=True):
    """What a worker was started with. `environ` is what the CLI's environment is picked from."""

    settings: Settings
    agents: tuple[Agent, ...]
    cli: Path
    cli_version: str
    environ: Mapping[str, str]
    box: Bubblewrap | None
    policies: Policies


def equip(settings: Settings, environ: Mapping[str, str]) -> Equipment:
    """Look for all of it; raises `WorkerStartError`, or `AgentError` for an agent that cannot be served."""
    agents = parse_agents(settings.agents)
    if not agents:
        raise WorkerStartError("A worker needs at least one agent: --agent DIR.")
    if settings.redis_url is None:
        raise WorkerStartError("A worker needs a Redis: --redis-url URL.")
    settings, cli, version = _cli(settings)
    try:
        box = choose_sandbox(settings, agents, environ)
        policies = Policies(
            settings,
            {agent.name: agent for agent in agents},
            is_boxed=box is not None,
            has_gate=find_upstream(settings, environ) is not None,
        )
    except (SandboxError, GateError, PolicyError) as error:
        raise WorkerStartError(str(error)) from error
    return Equipment(settings, agents, cli, version, environ, box, policies)


def _cli(settings: Settings) -> tuple[Settings, Path, str]:
    """The CLI and its version; without one, where fallbacks answer, settings that keep no process warm."""
    try:
        cli = find_cli(settings)
        return settings, cli, version_of(cli)
    except (CliNotFoundError, OSError, subprocess.SubprocessError) as error:
        if not settings.fallbacks:
            raise WorkerStartError(f"The Claude CLI does not run here: {error}") from error
        _log.warning("cli_missing", because=str(error), fallbacks=[f.label for f in settings.fallbacks])
    cli = settings.claude_path or Path("/claude-cli-is-missing")
    return msgspec.structs.replace(settings, warm=0), cli, "missing"


async def meet_redis(redis: Redis, url: str, stop: asyncio.Event) -> None:
    """Wait for Redis, which may be about to start as well; raises `WorkerStartError` when it does not.

    Does not wait beyond `stop`.
    """
    give_up_at = time.monotonic() + _MEETING_S
    while True:
        try:
            await redis.ping()
            return
        except (RedisError, OSError) as error:
            if time.monotonic() > give_up_at:
                where = url.rpartition("@")[2]  # before: maybe a password
                raise WorkerStartError(f"Redis does not answer at {where}: {error}") from error
            _log.warning("redis_awaited", error=str(error))
        if stop.is_set():
            return
        await asyncio.sleep(_MEET_AGAIN_S)
