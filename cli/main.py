"""The `backline` command. Composition only: each command loads the settings and hands over."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import structlog
from cyclopts import App, CycloptsError, Parameter

from cli import service
from cli.agents import agents
from cli.batch import app as batch
from cli.cache import app as cache
from cli.chat import chat
from cli.config import config
from cli.dead import app as dead
from cli.errors import CommandError
from cli.keys import keys
from cli.runs import app as runs
from cli.top import top
from cli.webhooks import webhooks
from shared.agents import AgentError
from shared.settings_sources import Loaded, SettingsError, load_settings, to_variables

if TYPE_CHECKING:
    from collections.abc import Sequence

Agents = Annotated[list[str] | None, Parameter(name="--agent", negative=())]

app = App(
    name="backline",
    help="Claude Code agents behind the OpenAI API, queued on Redis and run by any number of workers.",
    version=version("backline"),
    help_epilogue="Settings also come from BACKLINE_… variables, .env and backline.toml.",
)
for each in (agents, batch, cache, chat, config, dead, keys, runs, top, webhooks, *service.COMMANDS):
    app.command(each)
app.command(
    "cli.chaos:chaos", help="Break a private Backline on purpose, and check what its clients see."
)  # by name, so that --help is quick
app.register_install_completion_command(help="Set up completion for this shell, and say what was done.")


@app.command
def up(
    *,
    agent: Agents = None,
    port: str | None = None,
    host: str | None = None,
    data: str | None = None,
    redis_url: str | None = None,
    slots: str | None = None,
    detach: Annotated[bool, Parameter(negative=())] = False,
    background: Annotated[Path | None, Parameter(show=False)] = None,
) -> None:
    """Serve your agents: Redis, API and worker on this machine.

    Parameters
    ----------
    agent
        Directory of an agent, or NAME=DIR; may be repeated.
    port
        Port of the API; if not given and 9000 is taken, the next free one to 10000.
    host
        Address to listen on.
    data
        Directory for private data.
    redis_url
        Redis or Valkey to use, instead of one of our own.
    slots
        Turns to run at the same time.
    detach
        Go on in the background: see `backline status`, `logs`, `stop` and `restart`.
    background
        What `--detach` starts: the directory to say there when it is ready.
    """
    loaded = _load(agents=agent, port=port, host=host, data_dir=data, redis_url=redis_url, slots=slots)
    from cli.up import check, up  # noqa: PLC0415 - imported here so that --help is quick

    if detach:
        check(loaded)
        service.start(to_variables(loaded))
    else:
        up(loaded, background)


@app.command
def demo(*, agent: Agents = None, port: str | None = None) -> None:
    """Serve the example agent with a scripted model: no account needed, replies are canned.

    Parameters
    ----------
    agent
        Directory of another agent, or NAME=DIR; may be repeated.
    port
        Port of the API; if not given and 9000 is taken, the next free one to 10000.
    """
    loaded = _load(agents=agent, port=port)
    from cli.up import demo  # noqa: PLC0415 - imported here so that --help is quick

    demo(loaded)


@app.command
def api(
    *, port: str | None = None, host: str | None = None, redis_url: str | None = None, data: str | None = None
) -> None:
    """Run one API server.

    Parameters
    ----------
    port
        Port to listen on; if not given and 9000 is taken, the next free one to 10000.
    host
        Address to listen on.
    redis_url
        Redis or Valkey that the workers use too.
    data
        Directory for private data.
    """
    loaded = _load(port=port, host=host, redis_url=redis_url, data_dir=data)
    settings = loaded.settings
    _need_redis(loaded, "api")
    import msgspec  # noqa: PLC0415 - imported here so that --help is quick

    from api.main import ApiStartError, serve  # noqa: PLC0415
    from cli.ports import choose_port  # noqa: PLC0415

    chosen = choose_port(settings.host, settings.port, asked=loaded.asked("port"))
    try:
        serve(msgspec.structs.replace(settings, port=chosen), loaded.environ)
    except ApiStartError as error:
        raise CommandError(str(error)) from error


@app.command
def worker(
    *,
    agent: Agents = None,
    redis_url: str | None = None,
    slots: str | None = None,
    data: str | None = None,
    allow_root: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Run one worker: it serves its agents to every API on the same Redis.

    Parameters
    ----------
    agent
        Directory of an agent, or NAME=DIR; may be repeated.
    redis_url
        Redis or Valkey that the API uses too.
    slots
        Turns to run at the same time.
    data
        Directory for private data.
    allow_root
        Run as root even without a sandbox.
    """
    allowed = "true" if allow_root else None
    loaded = _load(agents=agent, redis_url=redis_url, slots=slots, data_dir=data, allow_root=allowed)
    if not loaded.settings.agents:
        raise CommandError(
            "Give at least one agent to serve: `backline worker --agent path/to/agent`.", code=2
        )
    _need_redis(loaded, "worker")
    from worker.main import serve  # noqa: PLC0415 - imported here so that --help is quick
    from worker.start import WorkerStartError  # noqa: PLC0415

    try:
        serve(loaded.settings, loaded.environ)
    except WorkerStartError as error:
        raise CommandError(str(error)) from error


@app.command
def doctor(
    *,
    agent: Agents = None,
    redis_url: str | None = None,
    data: str | None = None,
    online: Annotated[bool, Parameter(negative=())] = False,
    mcp: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Check all that requests depend on, say how to mend what fails; the exit code is 1 if something does.

    Where `backline up --detach` was started in this directory and runs, it is looked at as it was started.

    Parameters
    ----------
    agent
        Directory of an agent, or NAME=DIR; may be repeated.
    redis_url
        Redis or Valkey to look at.
    data
        Directory for private data.
    online
        Make one small call to the model too, to see that the credentials work.
    mcp
        Start the agents' MCP servers for a moment too.
    json
        Print JSON.
    """
    from cli.doctor.command import examine, report  # noqa: PLC0415 - imported here so that --help is quick

    flags = {"agents": agent, "redis_url": redis_url, "data_dir": data}
    found = examine(flags, is_online=online, starts_servers=mcp)
    if not report(found, is_json=json):
        raise CommandError("Something has to be mended; the lines marked ✗ say how.")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 0, 1 when it failed, 2 when it was written wrong."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_none")
    except CycloptsError as error:
        return _fail(f"{' '.join(str(error).split())} See `backline --help`.", 2)
    except (SettingsError, AgentError) as error:
        return _fail(str(error), 2)
    except CommandError as error:
        return _fail(str(error), error.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `backline logs | head`: who read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def run() -> None:
    """Run the command line of this process; the entry point of `backline`."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    sys.exit(main(sys.argv[1:]))


def _load(**flags: object) -> Loaded:
    return load_settings(flags, os.environ, Path.cwd())


def _need_redis(loaded: Loaded, command: str) -> None:
    if loaded.settings.redis_url is None:
        raise CommandError(
            f"`backline {command}` needs a Redis: give --redis-url URL or set REDIS_URL"
            " (`backline up` starts one of its own).",
            code=2,
        )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"backline: {message}\n")
    return code


if __name__ == "__main__":
    run()
