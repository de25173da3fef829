"""`backline agents` makes directories that pass its own check, and says what does not."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest

from cli.main import main
from shared.agent_policy import apply_policy
from shared.agent_reports import AgentReport, Inventory, McpServer, Reports
from shared.agents import parse_agents
from shared.registry import Registry, WorkerRecord, describe
from shared.settings import Settings


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setenv("BACKLINE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("words", [[], ["--skill"], ["--directory", "elsewhere"]])
def test_a_new_agent_passes_the_check(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "new", "front-desk", *words]) == 0
    place = "elsewhere" if "--directory" in words else "front-desk"
    assert f"backline demo --agent {'front-desk=' if place == 'elsewhere' else ''}" in capsys.readouterr().out
    assert main(["agents", "check", f"front-desk={place}"]) == 0
    assert "Front desk" in capsys.readouterr().out


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    assert main(["agents", "new", "desk"]) == 2
    assert list((tmp_path / "desk").iterdir()) == []


@pytest.mark.parametrize("name", ["Desk!", "opus"])
def test_a_name_that_no_agent_can_have_leaves_nothing(tmp_path: Path, name: str) -> None:
    assert main(["agents", "new", name]) == 2
    assert not (tmp_path / name).exists()


def test_a_bad_directory_fails_the_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "new", "desk"]) == 0
    (tmp_path / "desk" / ".mcp.json").write_text("{")
    capsys.readouterr()
    assert main(["agents", "check", "desk", "--json"]) == 1
    found = msgspec.json.decode(capsys.readouterr().out)
    assert "passed over" in found["findings"][0]["said"]


def test_where_nothing_runs_the_agents_of_the_settings_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "new", "desk"]) == 0
    monkeypatch.setenv("BACKLINE_AGENTS", "desk")
    capsys.readouterr()
    assert main(["agents", "list", "--json"]) == 0
    assert [row["agent"] for row in msgspec.json.decode(capsys.readouterr().out)] == ["desk"]


def test_a_name_that_cannot_be_is_answered_with_one_that_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agents", "new", "My Agent!"]) == 2
    assert "for example my-agent;" in capsys.readouterr().err


def test_a_directory_that_is_not_there_is_looked_for_where_it_was_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["agents", "check", "agents/desk", "--json"]) == 1
    (found,) = msgspec.json.decode(capsys.readouterr().out)["findings"]
    assert "is not there" in found["said"]
    assert str(tmp_path / "agents") in found["mend"]


def test_the_mend_of_an_empty_directory_mends_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "desk").mkdir()
    assert main(["agents", "check", "desk", "--json"]) == 0
    (found,) = msgspec.json.decode(capsys.readouterr().out)["findings"]
    subprocess.run(["/bin/sh", "-c", found["mend"]], check=True, timeout=30)
    assert main(["agents", "check", "desk", "--json"]) == 0
    (found,) = msgspec.json.decode(capsys.readouterr().out)["findings"]
    assert found["state"] == "ok"


@pytest.mark.parametrize("is_served", [True, False])
def test_a_list_tells_each_agents_model_and_description(
    *, is_served: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, settings, own in (
        ("desk", '{"model": "opus"}', 'description = "Answers callers"'),
        ("shop", "{}", ""),
        ("broken", "{", "" if is_served else "= no TOML"),
    ):
        assert main(["agents", "new", name]) == 0
        (tmp_path / name / ".claude" / "settings.json").write_text(settings)
        (tmp_path / name / ".claude" / "backline.toml").write_text(own)
    (tmp_path / "shop" / ".claude" / "settings.local.json").write_text('{"model": "haiku"}')
    monkeypatch.setenv("BACKLINE_AGENTS", "desk,shop,broken")
    if is_served:
        monkeypatch.setattr("cli.agents._registry", _announced)
    capsys.readouterr()
    assert main(["agents", "list", "--json"]) == 0
    rows = msgspec.json.decode(capsys.readouterr().out)
    assert {row["agent"]: (row["model"], row["description"]) for row in rows} == {
        "desk": ("opus", "Answers callers"),
        "shop": ("haiku", "Shop"),
        "broken": ("", "Broken"),
    }


async def _announced(settings: Settings) -> tuple[Registry, Reports]:
    """What a worker with these settings would have announced."""
    agents = [apply_policy(agent, settings).agent for agent in parse_agents(settings.agents)]
    records = {agent.name: describe(agent) for agent in agents}
    worker = WorkerRecord(id="w", host="h", agents=tuple(records), slots=1, busy=0, cli_version="1")
    faulty = {"broken": AgentReport("broken", faults=("It is broken.",))}
    desk = {"desk": AgentReport("desk", inventory=Inventory(("Read",), (McpServer("shop", "failed"),)))}
    return Registry((worker,), records), {"w": {**faulty, **desk}}


def test_a_list_tells_what_each_agent_has_and_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("desk", "broken"):
        assert main(["agents", "new", name]) == 0
    (tmp_path / "broken" / ".mcp.json").write_text("{")
    monkeypatch.setenv("BACKLINE_AGENTS", "desk,broken")
    capsys.readouterr()
    assert main(["agents", "list", "--json"]) == 0
    rows = {row["agent"]: row for row in msgspec.json.decode(capsys.readouterr().out)}
    assert rows["desk"]["faults"] == []
    assert "passed over" in rows["broken"]["faults"][0]
    monkeypatch.setattr("cli.agents._registry", _announced)
    assert main(["agents", "list", "--json"]) == 0
    rows = {row["agent"]: row for row in msgspec.json.decode(capsys.readouterr().out)}
    assert (rows["desk"]["tools"], rows["broken"]["tools"]) == (["Read"], None)
    assert rows["desk"]["mcp_servers"] == [{"name": "shop", "status": "failed"}]
    assert rows["broken"]["faults"] == ["It is broken."]
    assert main(["agents", "list"]) == 0
    heads, broken, desk = sorted(capsys.readouterr().out.splitlines(), key=lambda line: line[:6])[-3:]
    assert "?" in broken
    assert "?" not in desk
    assert "faults" in heads
