"""The Claude CLI: is it here, does it run, does it reach a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cli.credentials import find_credentials
from cli.doctor.finding import Finding, failed, ok, warning
from shared.agents import Agent
from worker.claude.home import Homes
from worker.claude.launch import CREDENTIALS, CliNotFoundError, Launcher, find_cli, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from shared.settings import Settings

_OLDEST = (2, 1)
"""What the worker says to the CLI, and reads from it, was measured with 2.1."""
_CALL_S = 90.0
_QUESTION = "Reply with the word OK."
LOG_IN = "export ANTHROPIC_API_KEY=…   (or log in once with `claude`)"


def check_cli(settings: Settings) -> Finding:
    """Whether the CLI is there, runs, and is new enough."""
    try:
        cli = find_cli(settings)
        version = version_of(cli)
    except CliNotFoundError as error:
        return failed("Claude CLI", str(error), "pip install --force-reinstall claude-agent-sdk")
    except (OSError, subprocess.SubprocessError) as error:
        return failed(
            "Claude CLI", f"It does not run: {error}", "export BACKLINE_CLAUDE_PATH=$(which claude)"
        )
    said = f"{version} at {cli}"
    numbers = version.split(".")[:2]
    if not all(number.isdecimal() for number in numbers) or tuple(map(int, numbers)) < _OLDEST:
        return warning("Claude CLI", f"{said} is older than 2.1", "unset BACKLINE_CLAUDE_PATH")
    return ok("Claude CLI", said)


def check_credentials(settings: Settings, environ: Mapping[str, str], agents: Sequence[Agent]) -> Finding:
    """Whether there are credentials at all; nothing is asked of a model."""
    found = find_credentials(environ, [agent.directory for agent in agents])
    if found is None:
        return failed("credentials", "No key, login or cloud provider was found.", LOG_IN)
    proxy = "" if settings.credential_proxy != "off" else "; agents see them, for credential_proxy is off"
    return ok("credentials", f"{found} (not tried: --online does){proxy}")


def check_model(settings: Settings, environ: Mapping[str, str], agents: Sequence[Agent]) -> Finding:
    """Whether the CLI gets an answer from a model, by one small call as agents would make it."""
    found = find_credentials(environ, [agent.directory for agent in agents])
    if found is None:
        return failed("credentials", "No key, login or cloud provider was found.", LOG_IN)
    try:
        cli = find_cli(settings)
        with tempfile.TemporaryDirectory(prefix="backline-doctor-", ignore_cleanup_errors=True) as private:
            answer = _ask(cli, settings, environ, _caller(agents, found, Path(private)), Path(private))
    except (CliNotFoundError, OSError) as error:
        return failed("model call", str(error), "backline doctor")
    except subprocess.TimeoutExpired:
        said = f"No answer within {_CALL_S:.0f} s."
        return failed("model call", said, "curl -sI ${ANTHROPIC_BASE_URL:-https://api.anthropic.com}")
    return _judged(answer, found)


def _caller(agents: Sequence[Agent], found: str, private: Path) -> Agent:
    """Whose settings the call uses: nobody's, unless the credentials are an agent's own."""
    if "apiKeyHelper" in found:
        return next(each for each in agents if find_credentials({"HOME": str(private)}, [each.directory]))
    (private / "agent").mkdir()
    return Agent(name="doctor", directory=private / "agent")


def _ask(cli: Path, settings: Settings, environ: Mapping[str, str], agent: Agent, private: Path) -> str:
    """The CLI's last word as JSON. Raises `OSError` or `subprocess.TimeoutExpired`; nothing is left."""
    has_key = any(environ.get(name) for name in CREDENTIALS)
    login = Path(environ.get("CLAUDE_CONFIG_DIR") or Path(environ.get("HOME", "~")).expanduser() / ".claude")
    homes = Homes(private / "data", None if has_key else login)
    home = homes.home("doctor", agent.name)
    env = Launcher(cli, settings, environ).plan(agent, home, homes.scratch()).env
    options = ("--output-format=json", "--setting-sources=project,local", "--no-session-persistence")
    argv = [str(cli), "-p", *options, "--strict-mcp-config", "--tools=", "--max-turns=1", _QUESTION]
    with (
        subprocess.Popen(
            argv,
            env=env,
            cwd=agent.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process,
        _ended(process),
    ):
        return process.communicate(timeout=_CALL_S)[0]


class _ended:  # noqa: N801 - reads as a statement
    """Ends a process and all in its group, however the scope is left."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _judged(answer: str, found: str) -> Finding:
    for result in _objects(answer):
        if result.get("type") == "result":
            said = " ".join(str(result.get("result") or result.get("subtype") or "").split())[:200]
            if not result.get("is_error"):
                return ok("model call", f"{found}: the model answered")
            return failed("model call", f"{found}: {said}", LOG_IN)
    return failed("model call", f"The CLI said no result: {answer.strip()[-200:]!r}", LOG_IN)


def _objects(text: str) -> Iterator[dict[str, object]]:
    """The JSON objects among the lines, be they alone or in a list."""
    for line in text.splitlines():
        with suppress(ValueError):
            value = json.loads(line)
            yield from (
                each for each in (value if isinstance(value, list) else [value]) if isinstance(each, dict)
            )
