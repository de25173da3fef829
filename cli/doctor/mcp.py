"""An agent's MCP servers, started for a moment: do they answer `initialize`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from cli.doctor.finding import Finding, failed, ok
from shared.agent_faults import servers_of
from worker.claude.home import Home
from worker.claude.launch import Launcher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from shared.agents import Agent
    from shared.settings import Settings

_ANSWER_S = 20.0
_MOST_BYTES = 1024 * 1024
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "backline-doctor", "version": "1"},
    },
}
"""The first message of a client (Model Context Protocol, Lifecycle)."""


async def check_servers(
    agent: Agent, settings: Settings, environ: Mapping[str, str], private: Path
) -> list[Finding]:
    """Start or ask each server of an agent, as its CLI would, outside the sandbox, and end it."""
    home = Home(directory=private)
    env = Launcher(private / "claude", settings, environ).plan(agent, home, private).env
    found: list[Finding] = []
    for name, server in servers_of(agent).items():
        title = f"agent {agent.name}, server {name}"
        try:
            said = await _ask(_expanded(server, env), env, agent.directory)
            found.append(ok(title, said))
        except _NoAnswerError as error:
            said = str(error)
            mend = f"${{EDITOR:-vi}} {agent.directory / '.mcp.json'}"
            found.append(failed(title, said, mend))
    return found


class _NoAnswerError(Exception):
    """The server did not answer; the message says how."""


async def _ask(server: dict[str, Any], env: Mapping[str, str], cwd: Path) -> str:
    try:
        async with asyncio.timeout(_ANSWER_S):
            if "url" in server:
                return await _ask_url(str(server["url"]), dict(server.get("headers") or {}))
            return await _ask_process(server, env, cwd)
    except TimeoutError as error:
        raise _NoAnswerError(f"No answer within {_ANSWER_S:.0f} s.") from error


async def _ask_url(url: str, headers: dict[str, str]) -> str:
    import httpx  # noqa: PLC0415 - imported here so that --help is quick

    accept = {"accept": "application/json, text/event-stream"}
    try:
        async with (
            httpx.AsyncClient(timeout=_ANSWER_S) as http,
            http.stream("POST", url, json=_HELLO, headers={**accept, **headers}) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _NoAnswerError(f"{url} does not answer: {error!r}") from error
    if status in {401, 403}:
        raise _NoAnswerError(f"{url} refuses the credentials: HTTP {status}.")
    if status >= 400 and status != 405:  # the older transport takes no POST here
        raise _NoAnswerError(f"{url} answers with HTTP {status}.")
    return f"{url} answers"


async def _ask_process(server: dict[str, Any], env: Mapping[str, str], cwd: Path) -> str:
    argv = [str(server.get("command", "")), *(str(word) for word in server.get("args") or ())]
    own = {str(name): str(value) for name, value in (server.get("env") or {}).items()}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**env, **own},
            cwd=cwd,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            limit=_MOST_BYTES,
        )
    except (OSError, ValueError) as error:
        raise _NoAnswerError(f"{argv[0]!r} does not start: {error}") from error
    try:
        return await _hear(process, argv[0])
    finally:
        await _end(process)


async def _hear(process: asyncio.subprocess.Process, program: str) -> str:
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018, S101 - both are pipes
    with suppress(ConnectionError):
        process.stdin.write(json.dumps(_HELLO).encode() + b"\n")
        await process.stdin.drain()
    while True:
        try:
            line = await process.stdout.readline()
        except ValueError as error:
            raise _NoAnswerError(f"{program!r} says what is no protocol.") from error
        if not line:
            raise _NoAnswerError(f"{program!r} ended with exit code {await process.wait()}, and no answer.")
        with suppress(ValueError, TypeError, AttributeError):
            answer = json.loads(line)
            if answer.get("id") == 1 and "result" in answer:
                info = answer["result"].get("serverInfo", {})
                return f"answers: {info.get('name', program)} {info.get('version', '')}".rstrip()
            if answer.get("id") == 1:
                raise _NoAnswerError(f"{program!r} refuses: {answer.get('error')}")


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a server, and what it started, be it in another group."""
    children: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    await process.wait()


def _expanded(server: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """With the variables put in, as the CLI does: `${NAME}` and `${NAME:-default}`."""

    def put_in(value: Any) -> Any:
        if isinstance(value, str):
            return _VARIABLE.sub(lambda m: environ.get(m[1], m[2] if m[2] is not None else m[0]), value)
        if isinstance(value, dict):
            return {name: put_in(each) for name, each in value.items()}
        return [put_in(each) for each in value] if isinstance(value, list) else value

    return {name: put_in(value) for name, value in server.items()}
