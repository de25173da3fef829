"""An agent whose directory goes away is not offered meanwhile; nothing waits for it without an end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from scripted_model import call, say, script, text, tokens, use_tool
from shared import redis_keys as keys
from tests.support.asking import PATH, body, check_envelope
from tests.support.model import Model
from tests.support.stack import CLAUDE_MD, Stack, running_stack
from tests.support.waiting import wait_for

NOTICED_S = 5.0
NOT_THERE = "Its directory is not there."


@pytest.fixture(scope="module")
def shared(model: Model) -> Iterator[Stack]:
    """One worker with two agents; whoever takes one away gives it back."""
    with running_stack(model, slots=2, warm=1, max_live=4) as stack:
        yield stack


def post(stack: Stack, *words: object, **fields: Any) -> httpx.Response:
    return httpx.post(stack.url + PATH, json=body(*words, **fields), timeout=60)


def served(stack: Stack) -> set[str]:
    models = httpx.get(f"{stack.url}/v1/models", timeout=5).json()["data"]
    return {model["id"] for model in models} & {"agent", "other"}


def ready(stack: Stack) -> Any:
    return httpx.get(f"{stack.url}/ready", timeout=5).json()


def processes_in(directory: Path) -> list[int]:
    """CLIs that were started in a directory, be it gone by now."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.cwd().removesuffix(" (deleted)") == str(directory):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def take_away(directory: Path) -> Callable[[], object]:
    away = directory.with_name(f"{directory.name}-away")
    directory.rename(away)
    return lambda: away.rename(directory)


def delete(directory: Path) -> Callable[[], object]:
    shutil.rmtree(directory)

    def make_anew() -> None:
        (directory / ".claude").mkdir(parents=True)
        (directory / "CLAUDE.md").write_text(CLAUDE_MD)

    return make_anew


def break_settings(directory: Path) -> Callable[[], object]:
    settings = directory / ".claude/settings.json"
    before = settings.read_text() if settings.exists() else "{}"
    settings.write_text('{"permissions": {"deny": ["Bash"')
    return lambda: settings.write_text(before)


def break_servers(directory: Path) -> Callable[[], object]:
    servers = directory / ".mcp.json"
    servers.write_text("{")
    return servers.unlink


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (take_away, NOT_THERE),
        (delete, NOT_THERE),
        (break_settings, "Its .claude/settings.json cannot be used: it is no JSON"),
        (break_servers, "Its .mcp.json cannot be used: it is no JSON"),
    ],
)
def test_an_agent_is_served_while_its_directory_is_as_it_should_be(
    shared: Stack, marker: str, harm: Callable[[Path], Callable[[], object]], why: str
) -> None:
    directory = shared.root / "agents/other"
    assert post(shared, marker, say("Before."), model="other").status_code == 200
    wait_for(lambda: processes_in(directory), 20, "a process is kept ready")
    mend = harm(directory)
    wait_for(lambda: served(shared) == {"agent"}, NOTICED_S, "the agent is not listed")
    refused = post(shared, marker, say("Never."), model="other")
    error = check_envelope(refused, 503, "agent_unavailable")
    assert why in error["message"]
    assert str(shared.root) not in error["message"]
    assert refused.headers["x-should-retry"] == "true"
    assert why in ready(shared)["unavailable"]["other"]
    assert post(shared, marker, say("All is well."), model="agent").status_code == 200
    wait_for(lambda: not processes_in(directory), NOTICED_S, "no process of it is left")
    mend()
    wait_for(lambda: served(shared) == {"agent", "other"}, NOTICED_S, "the agent is back")
    assert post(shared, marker, say("Again."), model="other").status_code == 200
    assert ready(shared)["unavailable"] == {}


def test_a_run_that_is_under_way_has_an_end_when_its_directory_is_deleted(shared: Stack, marker: str) -> None:
    directory = shared.root / "agents/agent"
    settings = (directory / ".claude/settings.json").read_text()
    plan = script(
        call(tokens(60, pace_ms=50)), call(use_tool("Bash", {"command": "echo x"})), call(text("The end."))
    )
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(post, shared, marker, plan)
        wait_for(lambda: shared.model.calls(marker), 30, "the model speaks")
        mend = delete(directory)
        ended = answer.result(50)
    assert ended.status_code == 200 or ended.json()["error"]["code"] in {"agent_died", "internal_error"}
    assert "x-backline-run-id" in ended.headers
    wait_for(lambda: not processes_in(directory), NOTICED_S, "no process of it is left")
    mend()
    (directory / ".claude/settings.json").write_text(settings)
    wait_for(lambda: served(shared) == {"agent", "other"}, NOTICED_S, "the agent is back")
    assert post(shared, marker, say("Again.")).status_code == 200


def test_a_run_that_waits_for_it_ends_in_an_error_that_says_why(model: Model, marker: str) -> None:
    with running_stack(model, slots=1) as stack, ThreadPoolExecutor() as threads:
        first = threads.submit(post, stack, f"{marker}-first", script(tokens(400, pace_ms=50)), model="other")
        wait_for(lambda: model.calls(f"{marker}-first"), 30, "the one slot is taken")
        waiting = threads.submit(post, stack, marker, say("Never."))
        wait_for(lambda: stack.waiting("agent"), 10, "the run waits")
        shutil.rmtree(stack.root / "agents/agent")
        error = check_envelope(waiting.result(30), 503, "agent_unavailable")
        assert NOT_THERE in error["message"]
        assert not stack.waiting("agent")
        assert not model.calls(marker)
        assert first.result(40).status_code == 200


def test_a_run_that_waits_for_it_is_taken_by_a_worker_that_has_it(model: Model, marker: str) -> None:
    with running_stack(model, slots=1) as stack, ThreadPoolExecutor() as threads:
        first = threads.submit(post, stack, f"{marker}-first", script(tokens(200, pace_ms=50)), model="other")
        wait_for(lambda: model.calls(f"{marker}-first"), 30, "the one slot is taken")
        there = stack.root / "elsewhere/agent"
        shutil.copytree(stack.root / "agents/agent", there)
        waiting = threads.submit(post, stack, marker, say("From elsewhere."))
        wait_for(lambda: stack.waiting("agent"), 10, "the run waits")
        shutil.rmtree(stack.root / "agents/agent")
        stack.start_worker(("../elsewhere/agent",))
        stack.wait_ready(2)
        assert waiting.result(30).json()["choices"][0]["message"]["content"] == "From elsewhere."
        assert served(stack) == {"agent", "other"}
        assert first.result(40).status_code == 200
        with stack.redis_client() as redis:
            assert not [*redis.scan_iter(keys.lease("*"))]
