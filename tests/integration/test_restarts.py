"""A worker that dies at each start: it is started ever more rarely, and costs no run."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scripted_model import script, tokens
from shared.settings import Settings
from tests.integration.test_up import EXAMPLE, Running, backline
from tests.support.model import Model
from tests.support.waiting import wait_for
from worker.claude.launch import find_cli

CLI = """#!{python} -IS
import os, sys
if "--version" in sys.argv:
    with open({starts!r}, "a") as starts:
        starts.write("x")
    if os.path.exists({broken!r}):
        sys.exit("out of order")
os.execv({cli!r}, [{cli!r}, *sys.argv[1:]])
"""


class Site:
    """A `backline up` whose worker needs a CLI that can be broken, and mended."""

    def __init__(self, directory: Path) -> None:
        self.broken, self._starts = directory / "broken", directory / "starts"
        self.cli = directory / "cli"
        words = {"starts": str(self._starts), "broken": str(self.broken), "cli": str(find_cli(Settings()))}
        self.cli.write_text(CLI.format(python=sys.executable, **words))
        self.cli.chmod(0o700)

    @property
    def starts(self) -> int:
        """How often a worker has begun to start."""
        return len(self._starts.read_text())


def part(running: Running, name: str) -> psutil.Process:
    return wait_for(lambda: [each for each in running.tree() if _is(each, name)], 20, f"the {name} runs")[0]


def _is(process: psutil.Process, name: str) -> bool:
    try:
        return process.cmdline()[-2:] == ["cli.main", name]
    except psutil.Error:
        return False


@pytest.mark.timeout(150)
def test_a_worker_that_dies_at_each_start_costs_no_run(model: Model, tmp_path: Path) -> None:
    site = Site(tmp_path)
    variables = {
        "ANTHROPIC_API_KEY": "sk-ant-scripted",
        "ANTHROPIC_BASE_URL": model.url,
        "BACKLINE_CLAUDE_PATH": str(site.cli),
        "BACKLINE_SANDBOX": "none",
        "BACKLINE_WARM": "0",
        "BACKLINE_UNSERVED_TIMEOUT_S": "90",
    }
    words = ("up", "--agent", f"mine={EXAMPLE}", "--data", str(tmp_path / "data"), "--slots", "1")
    with backline(*words, cwd=tmp_path, **variables) as running:
        found = [word for word in running.banner().split() if word.startswith("http://")]
        with httpx.Client(base_url=found[0].rstrip("/"), timeout=30) as http:
            asked = [_ask(http, count) for count in (40, 3, 3)]
            wait_for(lambda: _states(http, asked).count("running") == 1, 20, "one runs, two wait")
            site.broken.touch()
            part(running, "worker").kill()
            before = site.starts
            wait_for(lambda: http.get("/ready").status_code == 503, 20, "the API is not ready")
            wait_for(lambda: site.starts >= before + 3, 40, "it was started again and again")
            assert http.get("/ready").status_code == 503
            assert set(_states(http, asked)) <= {"running", "queued"}
            site.broken.unlink()
            wait_for(lambda: set(_states(http, asked)) == {"completed"}, 60, "all are done")
            assert [_run(http, one)["attempts"] for one in asked] == [2, 1, 1]
            assert http.get("/ready").status_code == 200

            part(running, "api").send_signal(signal.SIGKILL)
            wait_for(lambda: _answers(http), 30, "the API is back")
        assert running.process.poll() is None


def _ask(http: httpx.Client, count: int) -> str:
    said = f"Count. {script(tokens(count, pace_ms=50, goes_on=True))}"
    answer = http.post("/v1/responses", json={"model": "mine", "input": said, "background": True})
    assert answer.status_code == 200, answer.text
    return "run_" + str(answer.json()["id"]).removeprefix("resp_")


def _run(http: httpx.Client, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/runs/{run_id}").json()
    return found


def _states(http: httpx.Client, run_ids: list[str]) -> list[str]:
    return [str(_run(http, run_id)["state"]) for run_id in run_ids]


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/ready").status_code == 200
    except httpx.TransportError:
        return False
