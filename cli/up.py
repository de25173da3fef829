"""`backline up` and `backline demo`: Redis, API and worker on this machine, as one thing."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog

from cli import probe
from cli.background import bound_log, note_ready
from cli.banner import base_url, print_banner
from cli.child import Launch
from cli.credentials import check_credentials, without_credentials
from cli.crew import Crew, crew, echo
from cli.embedded_redis import embedded_redis
from cli.errors import CommandError, Stopped
from cli.lifeline import python
from cli.ports import choose_port
from shared.agents import parse_agents
from shared.loopback import is_loopback
from shared.settings_sources import to_environment, without_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.agents import Agent
    from shared.settings import Settings
    from shared.settings_sources import Loaded

log = structlog.get_logger("up")

_READY_S = 30.0
_POLL_S = 0.1
_LOG_S = 10.0
"""How often somebody looks whether the log has become long."""
_MARGIN_S = 2.0
"""A child keeps its own drain time; only one that overruns it is killed."""
_EXAMPLE_AGENT = Path(__file__).resolve().parent.parent / "examples" / "agents" / "assistant"
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


def up(loaded: Loaded, background: Path | None = None) -> None:
    """Serve the given agents until Ctrl-C or SIGTERM. Raises what `check` raises.

    `background` is where to say that it is ready, when nobody looks on.
    """
    agents = check(loaded)
    settings = msgspec.structs.replace(
        loaded.settings,
        agents=tuple(f"{agent.name}={agent.directory}" for agent in agents),
        port=choose_port(loaded.settings.host, loaded.settings.port, asked=loaded.asked("port")),
    )
    asyncio.run(_serve(settings, without_settings(loaded.environ), demo=False, background=background))


def check(loaded: Loaded) -> tuple[Agent, ...]:
    """The agents to serve. Raises CommandError where they cannot be, and AgentError for a bad one."""
    settings = loaded.settings
    if not settings.agents:
        raise CommandError(
            "Give at least one agent to serve: `backline up --agent path/to/agent`, a directory with a"
            " CLAUDE.md or .claude/ in it.",
            code=2,
        )
    agents = parse_agents(settings.agents)
    if not settings.fallbacks:
        check_credentials(loaded.environ, [agent.directory for agent in agents])
    return agents


def demo(loaded: Loaded) -> None:
    """Serve the example agent, or those of `--agent`, with a scripted model, leaving nothing behind.

    Raises CommandError, and AgentError for a bad agent.
    """
    entries = loaded.settings.agents if loaded.origins["agents"] == "--agent" else ()
    agents = parse_agents(entries)
    if not agents and not _EXAMPLE_AGENT.is_dir():
        raise CommandError(
            f"The example agent is not at {_EXAMPLE_AGENT}: run the demo from a source checkout."
        )
    asked = loaded.settings
    with tempfile.TemporaryDirectory(prefix="backline-demo-", ignore_cleanup_errors=True) as private:
        settings = msgspec.structs.replace(
            asked,
            redis_url=None,
            data_dir=Path(private),
            agents=tuple(f"{agent.name}={agent.directory}" for agent in agents)
            or (f"assistant={_EXAMPLE_AGENT}",),
            agents_file=None,
            default_agent=None,
            permission_mode="dontAsk",
            pass_env=(),
            fallbacks=(),
            auth="off",
            api_keys=None,
            api_keys_file=None,
            webhook_url=None,
            webhook_secret=None,
            port=choose_port(asked.host, asked.port, asked=loaded.asked("port")),
        )
        environ = without_credentials(without_settings(loaded.environ))
        environ = {name: value for name, value in environ.items() if name.upper() not in _PROXIES}
        asyncio.run(_serve(settings, environ, demo=True))


async def _serve(
    settings: Settings, environ: Mapping[str, str], *, demo: bool, background: Path | None = None
) -> None:
    async with crew() as mates:
        try:
            url = await _start(mates, settings, environ, demo=demo, is_detached=background is not None)
            if background is not None:
                note_ready(background, url)
            while True:
                await mates.pause(_LOG_S if background is not None else None)
                if background is not None:
                    bound_log(background)
        except Stopped:
            hint = {} if background is not None else {"hint": "Ctrl-C again ends everything at once"}
            log.info("stopping", **hint)


async def _start(
    mates: Crew, settings: Settings, environ: Mapping[str, str], *, demo: bool, is_detached: bool
) -> str:
    """Start everything and say so; gives the API's address."""
    settings, hold = await _start_redis(mates, settings)
    worker_environ = dict(environ)
    if demo:
        worker_environ |= {
            "ANTHROPIC_BASE_URL": await _start_model(mates, environ),
            "ANTHROPIC_API_KEY": "demo",
        }
    if demo or is_loopback(settings.host):  # one person's machine; the worker's log says so
        settings = msgspec.structs.replace(settings, allow_root=True)
    keyless = msgspec.structs.replace(settings, api_keys=None, api_keys_file=None, webhook_secret=None)
    for name, variables in (("worker", worker_environ), ("api", without_credentials(environ))):
        bare = msgspec.structs.replace(settings, fallbacks=())  # their keys are the worker's
        given = bare if name == "api" else keyless  # what a worker has, its agents' tools may find
        launch = _launch(mates, given, name, variables, "cli.main", name)
        await mates.keep(msgspec.structs.replace(launch, pass_fds=(*launch.pass_fds, *hold)))
    url = base_url(settings.host, settings.port)
    await _until_ready(mates, url)
    mates.up()
    served = [agent.name for agent in parse_agents(settings.agents)]
    needs_key = await probe.needs_key(url)
    print_banner(url, served, demo=demo, needs_key=needs_key, is_detached=is_detached)
    return url


async def _start_redis(mates: Crew, settings: Settings) -> tuple[Settings, tuple[int, ...]]:
    """Return the settings with a Redis that answers, and the descriptors its users must hold."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.redis_url is not None:
        await probe.check_redis(settings.redis_url)
        return settings, ()
    embedded = await mates.stack.enter_async_context(embedded_redis(settings.data_dir))
    mates.watch(embedded.server)
    return msgspec.structs.replace(settings, redis_url=embedded.url), (embedded.hold,)


async def _start_model(mates: Crew, environ: Mapping[str, str]) -> str:
    """Start the scripted model and return its URL."""
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    pass_on = echo("model")

    def on_line(line: str) -> None:
        with suppress(ValueError, KeyError, TypeError):
            if not said.done():
                said.set_result(json.loads(line)["url"])
                return
        pass_on(line)

    argv = python(mates.line, "run", "scripted_model", "--port", "0")
    await mates.start(
        Launch(name="model", argv=argv, env=environ, pass_fds=(mates.line.read,), drain_s=_MARGIN_S), on_line
    )
    deadline = asyncio.get_running_loop().time() + _READY_S
    while not said.done():
        await mates.pause(0.01)
        if asyncio.get_running_loop().time() > deadline:
            raise CommandError(f"The scripted model did not start within {_READY_S:.0f} s.")
    return said.result()


def _launch(mates: Crew, settings: Settings, name: str, environ: Mapping[str, str], *module: str) -> Launch:
    """Describe a child of ours: settings by environment, so that nothing secret stands on a command line."""
    if settings.log_format == "auto" and sys.stderr.isatty():
        settings = msgspec.structs.replace(settings, log_format="console")
    return Launch(
        name=name,
        argv=python(mates.line, "run", *module),
        env={**environ, **to_environment(settings), "PYTHONUNBUFFERED": "1"},
        cwd=settings.data_dir,  # where no .env or backline.toml can say otherwise
        pass_fds=(mates.line.read,),
        drain_s=settings.drain_timeout_s + _MARGIN_S,
    )


async def _until_ready(mates: Crew, url: str) -> None:
    deadline = asyncio.get_running_loop().time() + _READY_S
    answer = await probe.get(f"{url}/ready")
    while answer.status != 200:
        if asyncio.get_running_loop().time() > deadline:
            raise CommandError(f"Not ready within {_READY_S:.0f} s; {url}/ready says: {answer.body}")
        await mates.pause(_POLL_S)
        answer = await probe.get(f"{url}/ready")
