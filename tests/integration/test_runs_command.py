"""`backline runs` shows in a terminal what the API knows of runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import httpx

from scripted_model import call, say, script, tokens
from tests.support.asking import PATH
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ


def begun(stack: Stack, words: str, model: str = "agent") -> str:
    """A run that goes on without a client; its id."""
    body = {"model": model, "messages": [{"role": "user", "content": words}], "stream": True}
    headers = {"x-backline-on-disconnect": "continue"}
    with httpx.stream("POST", stack.url + PATH, json=body, headers=headers, timeout=50) as answer:
        return answer.headers["x-backline-run-id"]


def backline(stack: Stack, home: Path, *words: str) -> subprocess.Popen[str]:
    argv = [BACKLINE, "runs", *words, "--url", stack.url]
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, env=clean_environ(home), cwd=home, stdout=pipe, stderr=pipe, text=True)


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=55)
    return process.returncode, out, err


def test_an_answer_is_followed_shown_and_listed(stack: Stack, tmp_path: Path, marker: str) -> None:
    run_id = begun(stack, f"{marker} {say('All of it.')}", "other")
    code, out, err = said(backline(stack, tmp_path, "tail", run_id))
    assert (code, out) == (0, "All of it.\n")
    assert "[started on worker " in err
    _, out, _ = said(backline(stack, tmp_path, "show", run_id, "--json"))
    assert json.loads(out)["state"] == "completed"
    _, out, _ = said(backline(stack, tmp_path, "show", run_id))
    assert "conversation_id" not in out  # there is none
    assert marker not in out
    _, out, _ = said(backline(stack, tmp_path, "list", "--agent", "other", "--state", "completed"))
    assert run_id in out
    code, _, err = said(backline(stack, tmp_path, "cancel", run_id))
    assert (code, err) == (1, "backline: The run was over before: it is completed.\n")


def test_a_run_that_is_cancelled_says_so_to_its_follower(stack: Stack, tmp_path: Path, marker: str) -> None:
    run_id = begun(stack, f"{marker} {script(call(tokens(2000, pace_ms=50)))}")
    follower = backline(stack, tmp_path, "tail", run_id)
    assert follower.stdout is not None
    assert follower.stdout.read(3) == "t0 "
    done = said(backline(stack, tmp_path, "cancel", run_id))
    assert done == (0, "Cancelled, after it had begun.\n", "")
    code, _, err = said(follower)
    assert code == 1
    assert "The run was cancelled: " in err


def test_what_is_not_there_is_said_in_the_apis_words(stack: Stack, tmp_path: Path) -> None:
    code, _, err = said(backline(stack, tmp_path, "tail", "run_0"))
    assert (code, err) == (1, "backline: There is no run with the id 'run_0'.\n")
