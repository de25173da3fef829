"""What people who run Backline do at a shell, against all that a request passes through."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ


def backline(stack: Stack, home: Path, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    environ = clean_environ(home) | {
        "REDIS_URL": stack.redis_url,
        "BACKLINE_PORT": str(stack.port),
        "BACKLINE_DATA_DIR": str(home / "data"),
        "ANTHROPIC_BASE_URL": stack.model.url,
        "ANTHROPIC_API_KEY": "sk-ant-scripted",
    }
    return subprocess.run(
        [BACKLINE, *words],
        env=environ,
        cwd=home,
        input=given,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def test_the_doctor_has_the_cli_ask_the_model(stack: Stack, tmp_path: Path) -> None:
    agent = f"agent={stack.root / 'agents/agent'}"
    done = backline(stack, tmp_path, "doctor", "--online", "--json", "--agent", agent)
    found = {each["name"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["model call"]["state"] == "ok", found["model call"]
    assert found["Claude CLI"]["state"] == "ok"
    assert "is a Backline that runs" in found["port"]["said"]
    assert found["redis durability"]["state"] == "warning"  # the stack's server keeps nothing
    assert found["agent agent"]["state"] == "ok"
    assert done.returncode == 0, done.stderr


def test_the_agents_that_workers_serve_are_listed(stack: Stack, tmp_path: Path) -> None:
    done = backline(stack, tmp_path, "agents", "list", "--json")
    rows = {row["agent"]: row for row in json.loads(done.stdout)}
    assert rows["agent"]["workers"] == 1
    assert rows["agent"]["description"] == "A tester's agent"
    assert "other" in rows
    assert rows["agent"]["slots"] == 8
