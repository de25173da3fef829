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
from tests.support.asking import PATH, body, check_envelope
from tests.support.model import Model
from tests.support.processes import Server
from tests.support.stack import CLAUDE_MD, Stack, running_stack
from tests.support.waiting import wait_for

NOTICED_S = 5.0
NOT_THERE = "Its directory is not there."


@pytest.fixture(scope="module")
def shared(model: Model) -> Iterator[Stack]:
    """One worker with three agents and one slot; whoever takes an agent away gives it back."""
    with running_stack(model, workers=0, slots=1, warm=1, max_live=4, unserved_timeout_s=10) as stack:
        stack.make_agent("third")
        stack.start_worker(("agent", "other", "third"))
        stack.wait_ready()
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


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (take_away, NOT_THERE),
        (break_settings, "Its .claude/settings.json cannot be used: it is no JSON"),
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


@pytest.mark.timeout(150)
def test_a_run_that_waits_is_for_another_worker_or_ends_in_an_error(shared: Stack, marker: str) -> None:
    here, there = shared.root / "agents/agent", shared.root / "elsewhere/agent"
    shutil.copytree(here, there)
    another = shared.start_worker(("../elsewhere/agent",))
    shared.wait_ready(2)
    shutil.rmtree(there)
    wait_for(lambda: _log_of(another).count("agent_withdrawn"), NOTICED_S, "it has no agent any more")
    with ThreadPoolExecutor() as threads:
        first = threads.submit(post, shared, f"1-{marker}", script(tokens(200, pace_ms=50)), model="other")
        wait_for(lambda: shared.model.calls(f"1-{marker}"), 30, "the one slot is taken")
        waiting = [
            threads.submit(post, shared, f"{n}-{marker}", say("From elsewhere."), model=agent)
            for n, agent in ((2, "agent"), (3, "third"))
        ]
        wait_for(lambda: shared.waiting("agent") and shared.waiting("third"), 10, "they wait")
        here.rename(there)
        make_anew = delete(shared.root / "agents/third")
        assert text_in(waiting[0].result(40)) == "From elsewhere."
        error = check_envelope(waiting[1].result(40), 503, "agent_unavailable")
        assert NOT_THERE in error["message"]
        assert not shared.waiting("third")
        assert not shared.model.calls(f"3-{marker}")
        assert first.result(40).status_code == 200
    shared.workers.remove(another)
    another.ask_to_end()
    assert another.exit_code() in {0, -15}
    there.rename(here)
    make_anew()
    wait_for(lambda: served(shared) == {"agent", "other"}, NOTICED_S, "the agent is back")


def _log_of(worker: Server) -> str:
    return worker.log.read_text("utf-8", "replace")


def text_in(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])
