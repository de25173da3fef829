"""`backline status`, `logs`, `stop` and `restart`: the Backline that `up --detach` started here."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from cli.errors import CommandError
from cli.tables import print_fields, print_json, say, span
from shared.settings_sources import load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.background import Background

_NONE = "Nothing was started here with `backline up --detach`"
Yes = Annotated[bool, Parameter(negative=())]


def start(variables: Mapping[str, str]) -> None:
    """Start a Backline in the background; raises `CommandError` when it does not come up."""
    background = _here()
    url = background.start(variables)
    say(f"Backline is ready  {url}")
    say("It goes on in the background: backline status, logs, restart, stop (in this directory).")


def status(*, json: Yes = False) -> None:
    """Say whether the Backline of this directory runs; the exit code is 1 if it does not.

    Parameters
    ----------
    json
        Print JSON.
    """
    background = _here()
    process = background.process()
    record = background.record
    shown: dict[str, object] = {"state": "stopped", "directory": str(background.directory)}
    if record is not None:
        shown["state"] = "ended by itself" if process is None else "running" if background.url else "starting"
    if process is not None and record is not None:
        shown |= {"pid": process.pid, "for": span(time.time() - record.started), "url": background.url}
        shown |= asyncio.run(_ready(background.url))
    if background.log.exists():
        shown["log"] = str(background.log)
    if json:
        print_json(shown)
    else:
        print_fields(shown)
    if shown["state"] != "running":
        raise CommandError(f"It does not run: {shown['state']}.{_who_answers()}")


def logs(
    *, follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False, last: int = 100
) -> None:
    """Show the log of the Backline of this directory.

    Parameters
    ----------
    follow
        Go on with what comes, until it ends or Ctrl-C.
    last
        How many lines to begin with.
    """
    for line in _here().lines(last, follow=follow):
        sys.stdout.write(line)
        sys.stdout.flush()


def stop() -> None:
    """Stop the Backline of this directory, once its runs have ended or their time is over."""
    settings = load_settings({}, os.environ, Path.cwd()).settings
    if not _here().stop(settings.drain_timeout_s):
        raise CommandError(f"{_NONE}, or it has ended.")
    say("Stopped.")


def restart() -> None:
    """Stop the Backline of this directory and start it anew with the same flags."""
    background = _here()
    record = background.record
    if record is None:
        raise CommandError(f"{_NONE}.")
    settings = load_settings({}, {**os.environ, **record.variables}, Path.cwd()).settings
    background.stop(settings.drain_timeout_s)
    start(record.variables)


COMMANDS = (status, logs, stop, restart)


def _here() -> Background:
    from cli.background import Background  # noqa: PLC0415 - imported here so that --help is quick

    return Background(Path.cwd())


def _who_answers() -> str:
    """A Backline of another terminal or directory, which these commands cannot stop."""
    from cli import probe  # noqa: PLC0415 - imported here so that --help is quick
    from cli.banner import base_url  # noqa: PLC0415

    settings = load_settings({}, os.environ, Path.cwd()).settings
    url = base_url(settings.host, settings.port)
    if '"version"' not in asyncio.run(probe.get(f"{url}/health")).body:
        return ""
    ends = "Ctrl-C or `backline stop` there ends it."
    return f" The Backline at {url} was started in another terminal or directory; {ends}"


async def _ready(url: str) -> dict[str, object]:
    """What the API says of itself, as far as it does."""
    from cli import probe  # noqa: PLC0415 - imported here so that --help is quick

    answer = await probe.get(f"{url}/ready")
    try:
        said = msgspec.json.decode(answer.body, type=dict[str, object])
    except msgspec.MsgspecError:
        return {"ready": False}
    # without a key the API tells the number of workers and no more; the rest would be noughts
    known = ("reason", "agents", "workers", "slots", "busy") if said.get("agents") else ("reason", "workers")
    return {"ready": answer.status == 200} | {name: said[name] for name in known if name in said}
