"""What is wrong is found before a request meets it, and each failing line has its mend."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from cli.doctor import host, mcp
from cli.doctor.agents import check_agent, find_agents
from cli.doctor.finding import Finding, failed
from cli.doctor.redis_server import judged
from cli.main import main
from shared.agents import Agent
from shared.settings import Settings

SOUND: dict[str, Any] = {
    "redis_version": "7.2.4",
    "redis_mode": "standalone",
    "role": "master",
    "aof_enabled": 1,
    "maxmemory_policy": "noeviction",
    "maxmemory": 0,
    "used_memory": 1,
}
SERVER = """
import json, sys, time
hello = json.loads(sys.stdin.readline())
if sys.argv[1:] == ["mute"]:
    time.sleep(60)
answer = {"jsonrpc": "2.0", "id": hello["id"], "result": {"serverInfo": {"name": "shop"}}}
print(json.dumps(answer), flush=True)
time.sleep(60)
"""


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    directory = tmp_path / "support"
    (directory / ".claude").mkdir(parents=True)
    (directory / "CLAUDE.md").write_text("# Support\n")
    return Agent("support", directory, "Support")


def failures(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state == "failed"]


def test_a_sound_redis_passes() -> None:
    assert {finding.state for finding in judged(SOUND, "redis-cli")} == {"ok"}


@pytest.mark.parametrize(
    ("info", "name", "state", "mend"),
    [
        ({"redis_version": "6.0.16"}, "redis version", "failed", "valkey"),
        ({"redis_mode": "cluster"}, "redis kind", "failed", "BACKLINE_REDIS_URL"),
        ({"role": "slave"}, "redis kind", "failed", "INFO replication"),
        ({"aof_enabled": 0}, "redis durability", "warning", "CONFIG SET appendonly yes"),
        ({"maxmemory_policy": "allkeys-lru"}, "redis memory", "failed", "maxmemory-policy noeviction"),
        ({"maxmemory": 10, "used_memory": 9}, "redis memory", "warning", "CONFIG SET maxmemory 20"),
    ],
)
def test_a_redis_that_would_lose_runs_is_told_apart(
    info: dict[str, Any], name: str, state: str, mend: str
) -> None:
    (bad,) = [finding for finding in judged({**SOUND, **info}, "redis-cli") if finding.state != "ok"]
    assert (bad.name, bad.state) == (name, state)
    assert mend in bad.mend


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        (".claude/settings.json", "{,}", "passed over by the CLI"),
        (".claude/settings.local.json", "[]", "holds no object"),
        (".claude/settings.json", '{"permissions": {"allow": "Read"}}', "permissions.allow must be a list"),
        (".mcp.json", "{", "passed over by the CLI"),
        (".mcp.json", "{}", "`mcpServers`"),
        (".mcp.json", '{"mcpServers": {"shop": {}}}', "neither `command` nor `url`"),
        (".mcp.json", '{"mcpServers": {"shop": {"command": "not-there-at-all"}}}', "is not there"),
        (".claude/skills/x/SKILL.md", "Do it.", "`description`"),
        (".claude/backline.toml", "model = 3", "unknown field `model`"),
        (".claude/agents/x.md", "---\nname: x\n---\nDo it.", "`description`"),
    ],
)
def test_what_the_cli_passes_over_without_a_word_is_said(
    agent: Agent, path: str, text: str, said: str
) -> None:
    assert failures(check_agent(agent, {"PATH": "/usr/bin"}, Settings())) == []
    (agent.directory / path).parent.mkdir(parents=True, exist_ok=True)
    (agent.directory / path).write_text(text)
    (bad,) = failures(check_agent(agent, {"PATH": "/usr/bin"}, Settings()))
    assert said in bad.said
    assert bad.mend


def test_one_bad_agent_does_not_hide_another(agent: Agent) -> None:
    good, found = find_agents(["gone", str(agent.directory), f"support={agent.directory}"])
    assert [each.name for each in good] == ["support"]
    assert [finding.name for finding in found] == ["agent gone", f"agent support={agent.directory}"]


@pytest.mark.parametrize("mode", ["answering", "mute"])
async def test_a_server_is_started_asked_and_ended(
    agent: Agent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(mcp, "_ANSWER_S", 2.0 if mode == "mute" else 20.0)
    shop = {"command": "${PYTHON:-" + sys.executable + "}", "args": ["-c", SERVER, mode]}
    (agent.directory / ".mcp.json").write_text(json.dumps({"mcpServers": {"shop": shop}}))
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    (found,) = await mcp.check_servers(agent, Settings(), {}, tmp_path)
    assert found.state == ("failed" if mode == "mute" else "ok"), found
    await asyncio.sleep(0)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


async def test_a_server_that_ends_or_is_not_there_is_said(agent: Agent, tmp_path: Path) -> None:
    servers = {
        "ends": {"command": sys.executable, "args": ["-c", "raise SystemExit(3)"]},
        "gone": {"command": "/not/there"},
        "shut": {"url": "http://127.0.0.1:1/mcp"},
    }
    (agent.directory / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    found = await mcp.check_servers(agent, Settings(), {}, tmp_path)
    assert [finding.state for finding in found] == ["failed"] * 3
    assert "exit code 3" in found[0].said


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({}, "ok"),
        ({"host": "0.0.0.0"}, "warning"),
        ({"host": "0.0.0.0", "auth": "off"}, "failed"),
        ({"host": "0.0.0.0", "auth": "on"}, "ok"),
        ({"host": "0.0.0.0", "api_keys": "sk-one-key-long-enough-to-be-taken-over"}, "ok"),
    ],
)
async def test_an_api_that_is_open_to_all_is_said(fields: dict[str, Any], state: str) -> None:
    assert (await host.check_exposure(Settings(**fields), None)).state == state


def test_a_port_that_is_taken_is_said() -> None:
    import socket  # noqa: PLC0415

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = asyncio.run(host.check_port(Settings(port=taken.getsockname()[1])))
    assert found.state == "warning"
    assert found.mend.startswith("backline up --port")


def test_files_with_secrets_are_for_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=x")
    (tmp_path / ".env").chmod(0o644)
    assert host.check_secrets(tmp_path, Settings()).mend == f"chmod 600 {tmp_path / '.env'}"
    (tmp_path / ".env").chmod(0o600)
    assert host.check_secrets(tmp_path, Settings()).state == "ok"


def test_a_bad_setting_does_not_keep_the_doctor_from_reporting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKLINE_SLOTS", "many")
    monkeypatch.setenv("BACKLINE_PROT", "1")
    assert main(["doctor", "--json"]) == 1
    found = msgspec.json.decode(capsys.readouterr().out)
    assert not found["ok"]
    assert [finding["mend"] for finding in found["findings"]] == ["backline config check"] * 2
    assert failed("settings", "", "").state == found["findings"][0]["state"]
