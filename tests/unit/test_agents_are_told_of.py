"""What agents have, what holds for them and what went wrong is told, each part to whom it concerns."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arq.connections import ArqRedis

from shared.agent_reports import (
    AgentPolicy,
    AgentReport,
    Inventory,
    McpServer,
    decode_reports,
    encode_reports,
)
from shared.agents import Agent, parse_agents
from shared.keys import Grant, KeyStore
from shared.registry import AgentRecord, RegistryStore, WorkerRecord, describe
from shared.run_events import ErrorKind, RunError, RunFailed
from shared.run_store import RunStore
from shared.runs import RunRequest
from shared.settings import Settings
from tests.unit.support import Valkey
from tests.unit.support_api import bearer, serving
from worker import fingerprint, policies
from worker.agent_reports import AgentReports
from worker.policies import Policies

INIT = json.dumps(
    {
        "type": "system",
        "subtype": "init",
        "tools": ["Read", "mcp__shop__price"],
        "mcp_servers": [{"name": "shop", "status": "connected", "source": "project"}],
    }
).encode()
REPORT = AgentReport(
    "agent",
    AgentPolicy(permission_mode="dontAsk", sandbox="bubblewrap"),
    (".mcp.json is broken.",),
    Inventory(("Read",), (McpServer("shop", "failed"),)),
)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(fingerprint, "_FRESH_S", 0.0)
    monkeypatch.setattr(policies, "_FRESH_S", 0.0)
    directory = tmp_path / "agent"
    (directory / ".claude").mkdir(parents=True)
    (directory / ".claude/settings.json").write_text(
        '{"effortLevel": "high", "permissions": {"allow": ["Read(./**)"], "deny": ["Bash"]}}'
    )
    return parse_agents([str(directory)])[0]


def reports_of(agent: Agent, settings: Settings | None = None) -> AgentReports:
    by_name = {agent.name: agent}
    known = Policies(settings or Settings(), by_name, is_boxed=False)
    return AgentReports(by_name, known, os.environ, Path("/claude"), is_boxed=False, has_gate=True)


async def one(reports: AgentReports) -> AgentReport:
    return decode_reports(encode_reports(await reports.all()))["agent"]


async def test_tools_are_known_from_a_turn_until_the_files_change(agent: Agent) -> None:
    reports = reports_of(agent)
    assert (await one(reports)).inventory is None
    reports.hear("agent", INIT)
    told = await one(reports)
    assert told.inventory == Inventory(("Read", "mcp__shop__price"), (McpServer("shop", "connected"),))
    reports.hear("agent", b"\xff{")
    assert await one(reports) == told
    (agent.directory / "CLAUDE.md").write_text("# Now another\n")
    assert (await one(reports)).inventory is None


async def test_what_a_cli_says_is_kept_within_a_bound(agent: Agent) -> None:
    reports = reports_of(agent)
    servers = [{"name": "s" * 9_000, "status": "x" * 9_000}] * 9_000
    reports.hear("agent", json.dumps({"tools": ["t" * 9_000] * 9_000, "mcp_servers": servers}).encode())
    assert len(encode_reports(await reports.all())) < 150_000


async def test_names_that_are_no_text_keep_nobody_from_being_told(agent: Agent) -> None:
    skill = os.fsencode(agent.directory) + b"/.claude/skills/\xe9t\xe9"
    os.makedirs(skill)  # noqa: PTH103 - a path of bytes
    with open(skill + b"/SKILL.md", "wb") as file:  # noqa: PTH123, ASYNC230
        file.write(b"---\nname: x\n---\n")
    servers = '{"mcpServers": {"\\ud800": {}, "b": {"command": "/bin/\\u0000"}}}'
    (agent.directory / ".mcp.json").write_text(servers)
    record = describe(agent)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record), type=AgentRecord) == record
    assert (await one(reports_of(agent))).faults


async def test_files_that_turn_bad_and_good_again_are_told(agent: Agent) -> None:
    reports = reports_of(agent)
    assert (await one(reports)).faults == ()
    (agent.directory / ".mcp.json").write_text("{")
    (agent.directory / ".claude/backline.toml").write_text('permission_mode = "bypassPermissions"')
    policy, server = (await one(reports)).faults
    assert "asks for more than the operator allows" in policy
    assert "passed over by the CLI" in server
    (agent.directory / ".mcp.json").unlink()
    (agent.directory / ".claude/backline.toml").write_text('permission_mode = "plan"')
    told = await one(reports)
    assert told.faults == ()
    assert told.policy.permission_mode == "plan"


async def test_the_policy_is_what_operator_and_agent_say_together(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "agents.toml").write_text('[agent]\nmay = ["mcp_config"]\npermission_mode = "acceptEdits"\n')
    told = await one(reports_of(agent, Settings(agents_file=tmp_path / "agents.toml", max_turns=7)))
    assert told.policy == AgentPolicy(
        permission_mode="acceptEdits",
        client_may=("mcp_config",),
        sandbox="none",
        agent_files="read-write",
        agent_network="host",
        agent_versions="tags",
        credential_proxy=True,
        max_turns=7,
        run_timeout_s=1800,
        on_worker_loss="resume",
        effort="high",
        allow=("Read(./**)",),
        deny=("Bash",),
    )


async def announced(redis: ArqRedis, report: AgentReport = REPORT) -> None:
    worker = WorkerRecord(id="w", host="h", agents=("agent",), slots=2, busy=1, cli_version="1")
    record = AgentRecord("agent", "Answers callers", 1, skills=("sum",), mcp_servers=("shop", "till"))
    await RegistryStore(redis).announce(worker, [record], encode_reports([report]))


async def failed(redis: ArqRedis, tenant: str, said: str) -> None:
    store = RunStore(redis, retention_s=60)
    run_id = f"run_{0:012x}{abs(hash(said)):032x}"[:48]
    await store.submit(run_id, RunRequest(agent="agent", prompt=(), tenant=tenant), queue_limit=9, ttl_s=60)
    await store.stop(run_id, "agent", RunFailed(error=RunError(ErrorKind.CLI_DIED, said)), "stopped")


async def test_reports_are_said_again_when_redis_has_lost_them(redis: ArqRedis) -> None:
    store = RegistryStore(redis)
    worker = WorkerRecord(id="w", host="h", agents=("agent",), slots=2, busy=1, cli_version="1")
    assert await store.announce(worker, []) is False
    assert await store.announce(worker, [], encode_reports([REPORT])) is True
    assert await store.announce(worker, []) is True
    assert await store.reports([worker]) == {"w": {"agent": REPORT}}
    await store.withdraw("w")
    assert await store.reports([worker]) == {}
    assert not [name async for name in redis.scan_iter("backline:agent-reports:*")]


async def test_an_agent_that_cannot_be_served_says_why(redis: ArqRedis, valkey: Valkey) -> None:
    """One that never was, and one that another worker serves."""
    store = RegistryStore(redis)
    why = {"gone": "Its directory is not there.", "half": "Its .mcp.json cannot be used."}
    without = WorkerRecord("w1", "h1", agents=(), slots=2, busy=0, cli_version="1", unavailable=why)
    await store.announce(without, [])
    await store.announce(
        WorkerRecord("w2", "h2", agents=("half",), slots=2, busy=0, cli_version="1"),
        [AgentRecord("half", "", 1)],
    )
    async with serving(valkey.url) as api:
        half, gone = (await api.get("/v1/admin/agents")).json()["data"]
        page = (await api.get("/dashboard/agents")).text
    assert (gone["id"], gone["state"], gone["unavailable"]) == ("gone", "down", why["gone"])
    assert (half["id"], half["state"], half["unavailable"]) == ("half", "up", "")
    assert [(each["host"], each["unavailable"]) for each in half["workers"]] == [
        ("h1", why["half"]),
        ("h2", ""),
    ]
    assert f"{why['gone']} It is served again" in page
    assert f"Not served by h1: {why['half']}" in page


async def test_an_administrator_is_told_all_but_the_words_of_other_tenants(
    redis: ArqRedis, valkey: Valkey
) -> None:
    await announced(redis)
    await failed(redis, "ours", "Our words.")
    await failed(redis, "theirs", "Their words.")
    keys = KeyStore(redis)
    _, secret = await keys.create(Grant(name="Ada", tenant="ours", scopes=("read", "admin")))
    _, other = await keys.create(Grant(name="Bob", tenant="theirs", agents=("agent",), may=("mcp_config",)))
    await keys.create(Grant(name="Eve", agents=("other",)))
    async with serving(valkey.url, auth="on") as api:
        (agent,) = (await api.get("/v1/admin/agents", headers=bearer(secret))).json()["data"]
        page = (await api.get("/dashboard/agents", headers=bearer(secret))).text
        assert (await api.get("/v1/admin/agents", headers=bearer(other))).status_code == 403
    assert (agent["id"], agent["state"], agent["tools"]) == ("agent", "up", ["Read"])
    assert agent["mcp_servers"] == [{"name": "shop", "status": "failed"}, {"name": "till", "status": ""}]
    (worker,) = agent["workers"]
    assert (worker["host"], worker["faults"]) == ("h", [".mcp.json is broken."])
    assert agent["policies"][0]["hosts"] == ["h"]
    assert agent["policies"][0]["policy"]["sandbox"] == "bubblewrap"
    assert [(key["name"], key["may"]) for key in agent["keys"]] == [("Bob", ["mcp_config"])]
    said = {error["message"] for error in agent["last_errors"]}
    assert said == {"Our words.", None}
    assert {error["kind"] for error in agent["last_errors"]} == {"cli_died"}
    for word in ("is broken", "bubblewrap", "Bob", "Our words.", "cli died"):
        assert word in page
    assert "Their words." not in page
    assert "Eve" not in page


async def test_a_tenant_is_told_of_its_agents_and_its_own_failures_alone(
    redis: ArqRedis, valkey: Valkey
) -> None:
    await announced(redis)
    await failed(redis, "ours", "Our words.")
    await failed(redis, "theirs", "Their words.")
    grant = Grant(name="Rea", tenant="ours", scopes=("read",), agents=("agent",))
    _, secret = await KeyStore(redis).create(grant)
    _, foreign = await KeyStore(redis).create(Grant(scopes=("read",), agents=("other",)))
    async with serving(valkey.url, auth="on") as api:
        page = (await api.get("/dashboard/agents", headers=bearer(secret))).text
        nothing = (await api.get("/dashboard/agents", headers=bearer(foreign))).text
    for word in ("Answers callers", "shop", "Read", "Our words."):
        assert word in page
        assert word not in nothing
    for word in ("Their words.", "is broken", "bubblewrap", "Policy", "Keys", "Try it"):
        assert word not in page


async def test_a_report_of_no_known_shape_hides_no_agent(redis: ArqRedis, valkey: Valkey) -> None:
    await announced(redis)
    await redis.set("backline:agent-reports:w", b"\xc1", px=8_000)
    async with serving(valkey.url) as api:
        (agent,) = (await api.get("/v1/admin/agents")).json()["data"]
        assert "not known until its next run" in (await api.get("/dashboard/agents")).text
    shown: dict[str, Any] = {name: agent[name] for name in ("state", "tools", "policies")}
    assert shown == {"state": "up", "tools": None, "policies": []}
