"""`backline demo` and `backline up` as a person meets them: real Redis, API, worker, CLI, scripted model."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLINE = Path(sys.executable).with_name("backline")
EXAMPLE = Path(__file__).parents[2] / "examples" / "agents" / "assistant"
_OURS = ("BACKLINE_", "ANTHROPIC_", "CLAUDE_", "REDIS_URL")


class Running:
    """A `backline` process whose stdout is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.out = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.out += line

    def banner(self) -> str:
        deadline = time.monotonic() + 40
        while "Ctrl-C stops everything" not in self.out:
            assert self.process.poll() is None, "it ended before it was ready"
            assert time.monotonic() < deadline, "no banner"
            time.sleep(0.05)
        return self.out

    def tree(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@contextmanager
def backline(*arguments: str, cwd: Path, **variables: str) -> Iterator[Running]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    environ |= {"HOME": str(cwd), "TMPDIR": str(cwd), "NO_PROXY": "127.0.0.1", **variables}
    with subprocess.Popen(
        [BACKLINE, *arguments], cwd=cwd, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        running = Running(process)
        try:
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(45)
            running._reader.join(5)


def survivors(processes: list[psutil.Process], within_s: float) -> list[psutil.Process]:
    def alive(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + within_s
    while (left := [each for each in processes if alive(each)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.timeout(120)
def test_the_demo_answers_what_its_banner_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with backline("demo", cwd=tmp_path) as running:
        banner = running.banner()
        assert "assistant" in banner
        assert "canned" in banner
        assert "/dashboard" in banner
        example = re.search(r"^from openai.*?^print\(.*?$", banner, re.MULTILINE | re.DOTALL)
        assert example is not None
        python = [sys.executable, "-c", example[0]]
        reply = subprocess.run(python, capture_output=True, text=True, timeout=40, check=True)
        assert reply.stdout.strip()
        curl = re.search(r"^curl .*?\}'$", banner, re.MULTILINE | re.DOTALL)
        assert curl is not None
        streamed = subprocess.run(
            ["/bin/sh", "-c", curl[0]], capture_output=True, text=True, timeout=40, check=True
        )
        assert "data: [DONE]" in streamed.stdout.splitlines()
        processes = running.tree()
        assert len(processes) >= 4
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(45) == 0
        assert survivors(processes, within_s=1) == []
    assert list(tmp_path.glob("backline-*")) == []


@pytest.mark.timeout(90)
def test_a_demo_that_is_killed_takes_everything_with_it(tmp_path: Path) -> None:
    with backline("demo", cwd=tmp_path) as running:
        running.banner()
        processes = running.tree()
        running.process.kill()
        assert survivors(processes, within_s=20) == []


@pytest.mark.timeout(90)
def test_up_names_the_process_that_died_and_ends_the_others(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with backline(
        *("up", "--agent", f"mine={EXAMPLE}", "--data", data), cwd=tmp_path, ANTHROPIC_API_KEY="test"
    ) as running:
        assert "mine" in running.banner()
        processes = running.tree()
        redis = next(each for each in processes if each.name().startswith(("valkey", "redis")))
        redis.kill()
        assert running.process.wait(30) == 1
        assert survivors(processes, within_s=1) == []


class Shell:
    """A person's shell in a directory, in front of a Backline in the background."""

    def __init__(self, cwd: Path, **variables: str) -> None:
        self._cwd = cwd
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environ |= {"HOME": str(cwd), "XDG_STATE_HOME": str(cwd / "state"), "NO_PROXY": "127.0.0.1"}
        self._environ = environ | variables

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BACKLINE, *words],
            cwd=self._cwd,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.mark.timeout(240)
def test_a_backline_in_the_background_is_started_watched_and_stopped(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    shell = Shell(tmp_path, ANTHROPIC_API_KEY="sk-ant-none", BACKLINE_WARM="0")
    started = shell("up", "--agent", "desk", "--data", str(tmp_path / "data"), "--slots", "3", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        known = json.loads(shell("status", "--json").stdout)
        assert (known["state"], known["ready"], known["slots"]) == ("running", True, 3)
        assert known["url"] in started.stdout
        tree = psutil.Process(known["pid"]).children(recursive=True)
        assert "worker_ready" in shell("logs").stdout
        told = json.loads(Shell(tmp_path, BACKLINE_WARM="0")("doctor", "--json").stdout)["findings"]
        states = [(each["name"], each["state"]) for each in told]
        assert states[:2] == [("running", "ok"), ("running", "warning")]
        assert "this shell has no credentials" in told[1]["said"]
        assert ("credentials", "ok") in states, "of what runs, not of the shell"
        assert ("agent desk", "warning") in states, "the flags it was started with hold"
        again = shell("up", "--agent", "desk", "--detach")
        assert again.returncode == 1
        assert "It runs already" in again.stderr
        restarted = shell("restart")
        assert restarted.returncode == 0, restarted.stderr
        assert survivors(tree, within_s=1) == []
        known = json.loads(shell("status", "--json").stdout)
        assert known["slots"] == 3
        tree = [psutil.Process(known["pid"]), *psutil.Process(known["pid"]).children(recursive=True)]
    finally:
        stopped = shell("stop")
    assert stopped.returncode == 0, stopped.stderr
    assert survivors(tree, within_s=1) == []
    assert shell("status").returncode == 1
    log = shell("logs").stdout
    assert "Backline is ready" in log
    assert "stopping" in log
    assert "Ctrl-C" not in log, "nobody sits at it"


def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "desk").mkdir()
    shell = Shell(tmp_path, ANTHROPIC_API_KEY="sk-ant-none", REDIS_URL="redis://127.0.0.1:1/0")
    started = shell("up", "--agent", "desk", "--detach")
    assert started.returncode == 1
    assert "Cannot use the Redis at" in started.stderr
    assert not (_place_of(tmp_path) / "up.json").exists()


def test_a_process_that_only_has_the_number_is_never_ended(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as stranger:
        place = _place_of(tmp_path)
        place.mkdir(parents=True)
        started = psutil.Process(stranger.pid).create_time()
        record = {"pid": stranger.pid, "started": started, "variables": {}}
        (place / "up.json").write_text(json.dumps(record))
        assert "ended by itself" in shell("status").stdout
        assert shell("stop").returncode == 1
        assert stranger.poll() is None
        stranger.kill()


def _place_of(directory: Path) -> Path:
    name = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    return directory / "state" / "backline" / "up" / name
