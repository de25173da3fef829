"""A run that kills its worker each time is started three times, kept as a dead letter, and harms no other."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripted_model import say
from shared import redis_keys as keys
from shared.settings import Settings
from tests.conftest import NewStack
from tests.support.asking import PATH
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ
from tests.support.waiting import wait_for
from worker.claude.launch import find_cli

POISON = """#!{python} -IS
import json, os, signal, sys, time
if "--version" in sys.argv or os.path.basename(os.getcwd()) != "agent":
    os.execv({cli!r}, [{cli!r}, *sys.argv[1:]])
with open({starts!r}, "a") as starts:
    starts.write("x")
sys.stdin.readline()
sys.stderr.write("out of luck, with sk-ant-0123456789abcdefghij\\n")
sys.stderr.flush()
time.sleep(0.5)
os.kill(os.getppid(), signal.SIGKILL)
"""


def poisoned(directory: Path) -> tuple[Path, Path]:
    """A CLI that kills its worker in the agent `agent`, and the file that counts its starts."""
    cli, starts = directory / "poison-cli", directory / "starts"
    cli.write_text(POISON.format(python=sys.executable, cli=str(find_cli(Settings())), starts=str(starts)))
    cli.chmod(0o700)
    return cli, starts


def lose(stack: Stack) -> None:
    """Wait for the next worker to die, let its lease lapse at once, and start another."""
    dead = wait_for(lambda: next((w for w in stack.workers if not w.runs), None), 40, "a worker dies")
    assert dead is not None
    stack.workers.remove(dead)
    stack.start_worker()
    with stack.redis_client() as redis:
        for lease in redis.scan_iter(keys.lease("*")):
            run_id = lease.decode().removeprefix(keys.lease(""))
            redis.delete(lease)
            redis.zadd(keys.queue("agent"), {run_id: 1}, xx=True)


def ask(stack: Stack, model: str, words: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": words}]}
    return httpx.post(stack.url + PATH, json=body, timeout=120)


def backline(stack: Stack, *words: str) -> Any:
    argv = [BACKLINE, *words, "--url", stack.url]
    env = clean_environ(stack.root)
    done = subprocess.run(
        argv, env=env, cwd=stack.root, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(180)
def test_a_run_that_kills_its_workers_starts_three_times(new_stack: NewStack, tmp_path: Path) -> None:
    cli, starts = poisoned(tmp_path)
    stack = new_stack(slots=2, workers=2, was_killed=True, claude_path=cli)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, stack, "agent", "Poison.")
        for _ in range(3):
            lose(stack)
        assert ask(stack, "other", str(say("All is well."))).status_code == 200
        body = answer.result(60)
    assert (body.status_code, body.json()["error"]["code"]) == (500, "worker_lost")
    assert starts.read_text() == "xxx"
    assert all(worker.runs for worker in stack.workers)

    (letter,) = json.loads(backline(stack, "dead", "list", "--json"))
    assert letter["id"] == body.headers["x-backline-run-id"]
    assert (letter["reason"], letter["attempts"], len(set(letter["workers"]))) == ("worker_lost", 3, 3)
    assert letter["stderr"].splitlines() == ["out of luck, with [redacted]"] * 3
    assert "Poison." in backline(stack, "dead", "show", letter["id"])
    assert "out of luck" in backline(stack, "dead", "list")

    cli.write_text(f'#!/bin/sh\nexec {find_cli(Settings())} "$@"\n')  # what was wrong is mended
    anew = backline(stack, "dead", "retry", letter["id"]).strip()
    url = f"{stack.url}/v1/runs/{anew}"
    wait_for(lambda: httpx.get(url, timeout=5).json()["state"] == "completed", 40, "the retry ends")
    assert httpx.get(url, timeout=5).json()["retry_of"] == letter["id"]
    assert json.loads(backline(stack, "dead", "list", "--json")) == []
