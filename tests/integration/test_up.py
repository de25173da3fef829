"""`backline demo` and `backline up` as a person meets them: real Redis, API, worker, CLI, scripted model."""

from __future__ import annotations

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
        assert streamed.stdout.strip().endswith("data: [DONE]")
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
        api = next(each for each in processes if each.cmdline()[-2:] == ["cli.main", "api"])
        api.kill()
        assert running.process.wait(30) == 1
        assert survivors(processes, within_s=1) == []
