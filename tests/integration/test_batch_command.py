"""`backline batch` does from a shell what the API does for clients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from scripted_model import say
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ


def backline(stack: Stack, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [BACKLINE, "batch", *words, "--url", stack.url]
    return subprocess.run(
        argv,
        env=clean_environ(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def write(path: Path, *prompts: str) -> str:
    lines = [
        {
            "custom_id": f"{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "agent", "messages": [{"role": "user", "content": prompt}]},
        }
        for number, prompt in enumerate(prompts)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_file_is_submitted_watched_and_read(stack: Stack, tmp_path: Path, marker: str) -> None:
    path = write(tmp_path / "in.jsonl", *(f"{marker} {say(f'Answer {n}.')}" for n in range(3)), "")
    done = backline(stack, tmp_path, "submit", path, "--watch")
    assert done.returncode == 0, done.stderr
    batch_id = done.stdout.strip()
    assert done.stderr.splitlines()[-1].startswith("completed: 4/4 done, 1 failed")
    results = backline(stack, tmp_path, "results", batch_id)
    assert sorted(json.loads(line)["custom_id"] for line in results.stdout.splitlines()) == ["0", "1", "2"]
    errors = backline(stack, tmp_path, "results", batch_id, "--errors")
    assert [json.loads(line)["custom_id"] for line in errors.stdout.splitlines()] == ["3"]
    assert backline(stack, tmp_path, "status", batch_id).stdout.startswith("completed: 4/4 done, 1 failed")
    late = backline(stack, tmp_path, "cancel", batch_id)
    assert (late.returncode, late.stdout) == (1, "")
    assert "Cannot cancel a batch with status 'completed'." in late.stderr


def test_an_input_that_is_wrong_is_told_line_by_line(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}\n")
    done = backline(stack, tmp_path, "submit", str(tmp_path / "in.jsonl"), "--watch")
    assert done.returncode == 1
    assert "line 1: Missing required parameter: 'custom_id'. (missing_required_parameter)" in done.stderr


def test_what_cannot_be_done_is_said_in_one_line(stack: Stack, tmp_path: Path) -> None:
    for words in (("submit", "nowhere.jsonl"), ("status", "batch_1"), ("results", "batch_1")):
        done = backline(stack, tmp_path, *words)
        assert done.returncode in {1, 2}
        assert done.stderr.count("\n") == 1
