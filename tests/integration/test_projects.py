"""A project is a private working copy of an agent: what runs in it changes nothing elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from scripted_model import Script, call, say, script, text, tokens, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH, check_envelope, user
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for


@pytest.fixture(scope="module")
def live(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, warm=1, max_live=8) as stack:
        yield stack


class Client:
    """Asks in projects, and looks where their files are."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"

    def make(self, **fields: Any) -> dict[str, Any]:
        answer = self.post("/v1/projects", {"agent": "agent", **fields})
        assert answer.status_code == 200, answer.text
        project: dict[str, Any] = answer.json()
        return project

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(self.stack.url + path, json=body, timeout=50)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.stack.url + path, timeout=50)

    def delete(self, path: str) -> httpx.Response:
        return httpx.delete(self.stack.url + path, timeout=50)

    def send(self, asked: Script | str, **fields: Any) -> httpx.Response:
        return self.post(PATH, {"model": "agent", "messages": [user(self.marker, asked)], **fields})

    def ask(self, asked: Script | str, **fields: Any) -> dict[str, Any]:
        answer = self.send(asked, **fields)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def bash(self, command: str, **fields: Any) -> str:
        """Let the agent run a command; gives what reached the model of it."""
        self.ask(script(call(use_tool("Bash", {"command": command})), call(text("Done."))), **fields)
        (result,) = self.stack.model.calls(self.marker)[-1].turns[-1][1]
        return str(result["content"])

    def files(self) -> list[Path]:
        return [*self.stack.data.glob("projects/*/*"), *self.stack.data.glob("homes/*/@*")]


def test_what_the_agent_writes_stays_in_its_project(live: Stack) -> None:
    client = Client(live)
    one, other = client.make(name="one"), client.make()
    assert (one["name"], one["agent"], one["state"], one["is_default"]) == ("one", "agent", "ready", False)
    client.bash("echo from-one > note.txt && ls CLAUDE.md", project_id=one["id"])
    assert client.bash("cat note.txt; ls", project_id=one["id"]).startswith("from-one\nCLAUDE.md")
    assert client.bash("ls", project_id=other["id"]) == "CLAUDE.md"
    assert "note.txt" not in client.bash("ls")
    assert not (live.root / "agents/agent/note.txt").exists()
    assert "CLAUDE-MD-WORD" in live.model.calls(client.marker)[0].everything
    for project in (one, other):
        assert client.delete(f"/v1/projects/{project['id']}").json()["deleted"]


def test_conversations_of_a_project_are_not_the_agents_own(live: Stack) -> None:
    client = Client(live)
    project = client.make()["id"]
    asked = user(client.marker, say("The same."))
    client.post(PATH, {"model": "agent", "messages": [asked]})
    history = [asked, {"role": "assistant", "content": "The same."}, user(client.marker, say("Next."))]
    elsewhere = client.post(PATH, {"model": "agent", "messages": history, "project_id": project}).json()
    again = [*history, {"role": "assistant", "content": "Next."}, user(client.marker, say("Last."))]
    here = client.post(PATH, {"model": "agent", "messages": again}).json()
    there = client.post(PATH, {"model": "agent", "messages": again, "project_id": project}).json()
    assert there["backline"]["session_id"] == elsewhere["backline"]["session_id"]
    assert here["backline"]["session_id"] != there["backline"]["session_id"]
    client.delete(f"/v1/projects/{project}")


def test_a_conversation_stays_in_its_project(live: Stack) -> None:
    client = Client(live)
    project, other = client.make()["id"], client.make()["id"]
    conversation = client.post("/v1/conversations", {}).json()["id"]
    client.ask(say("One."), conversation_id=conversation, project_id=project)
    pwd = client.bash("pwd", conversation_id=conversation)
    assert pwd.endswith(project)
    continued = client.ask(say("Three."), claude_options={"continue": True}, project_id=project)
    assert continued["backline"]["conversation_id"] == conversation
    for elsewhere in (other, "agent"):
        answer = client.send(say("No."), conversation_id=conversation, project_id=elsewhere)
        check_envelope(answer, 400, "invalid_value", param="project_id")
    answer = client.send(say("No."), claude_options={"continue": True}, project_id=other)
    check_envelope(answer, 404, "session_not_found", param="claude_options.continue")
    client.delete(f"/v1/projects/{project}")
    answer = client.send(say("No."), conversation_id=conversation)
    check_envelope(answer, 404, "project_not_found", param="project_id")
    client.delete(f"/v1/projects/{other}")


def test_a_deleted_project_leaves_nothing_on_the_disk(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=4)
    client = Client(stack)
    project = client.make()["id"]
    client.bash("echo hello > file", project_id=project)
    assert len(client.files()) == 2
    with ThreadPoolExecutor() as threads:
        running = threads.submit(client.send, script(tokens(400, pace_ms=100)), project_id=project)
        wait_for(lambda: len(stack.model.calls(client.marker)) == 3, 20, "the run is under way")
        assert client.delete(f"/v1/projects/{project}").json() == {
            "id": project,
            "object": "project.deleted",
            "deleted": True,
        }
        check_envelope(running.result(), 409, "run_cancelled")
    wait_for(lambda: not client.files(), 20, "the files are gone")
    wait_for(lambda: not stack.cli_processes(), 20, "the processes are gone")
    for answer in (client.get(f"/v1/projects/{project}"), client.send(say("No."), project_id=project)):
        check_envelope(answer, 404, "project_not_found", param="project_id")


def test_files_outlive_their_worker_and_go_when_it_hears_of_the_deletion(new_stack: NewStack) -> None:
    stack = new_stack(slots=2)
    client = Client(stack)
    kept, deleted = client.make()["id"], client.make()["id"]
    client.bash("echo still-here > file", project_id=kept)
    stack.workers[0].ask_to_end()
    stack.workers[0].exit_code()
    stack.workers.pop()
    elsewhere = stack.start_worker(data=stack.data / "other-host")
    stack.wait_ready()
    refused = client.send(say("No."), project_id=kept)
    check_envelope(refused, 503, "project_unavailable", param="project_id")
    assert "retry-after" in refused.headers
    assert client.delete(f"/v1/projects/{deleted}").status_code == 200
    left = Path(next(stack.data.glob("projects/*"))) / f".new-{_dead_pid()}-00@{os.uname().nodename}"
    left.mkdir()
    stack.start_worker()
    stack.wait_ready(2)
    wait_for(
        lambda: [place.name for place in stack.data.glob("projects/*/*")] == [kept], 20, "only one is left"
    )
    wait_for(lambda: client.send(say("Yes."), project_id=kept).status_code == 200, 20, "it is found again")
    assert client.bash("cat file", project_id=kept) == "still-here"
    assert elsewhere.runs


def test_a_shared_disk_lets_any_worker_take_the_run(new_stack: NewStack) -> None:
    stack = new_stack(workers=2, slots=2)
    client = Client(stack)
    project = client.make()["id"]
    client.bash("echo shared > file", project_id=project)
    wait_for(lambda: _holders(stack, project) == 2, 20, "both workers have found it")
    stack.workers[0].ask_to_end()
    stack.workers[0].exit_code()
    stack.workers.pop(0)
    assert client.bash("cat file", project_id=project) == "shared"


def test_a_directory_too_large_makes_no_project(new_stack: NewStack) -> None:
    stack = new_stack(max_project_bytes=50_000, max_projects=1)
    client = Client(stack)
    big = stack.root / "agents/other/big"
    big.write_bytes(b"x" * 60_000)
    error = check_envelope(client.post("/v1/projects", {"agent": "other"}), 500, "project_failed")
    assert "50000 bytes" in error["message"]
    assert [project["id"] for project in client.get("/v1/projects").json()["data"]] == ["agent", "other"]
    client.make()
    check_envelope(client.post("/v1/projects", {"agent": "agent"}), 400, "too_many_projects")
    assert len(client.files()) == 1


def test_a_list_begins_with_the_agents_own_directories(live: Stack) -> None:
    client = Client(live)
    made = [client.make(name=name, metadata={"n": name})["id"] for name in ("first", "second", "third")]
    every: list[dict[str, Any]] = []
    after = ""
    while True:
        page = client.get(f"/v1/projects?limit=2&order=asc&after={after}").json()
        every += page["data"]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert [project["id"] for project in every] == ["agent", "other", *made]
    assert [project["is_default"] for project in every] == [True, True, False, False, False]
    shown = client.get(f"/v1/projects/{made[0]}").json()
    assert shown == every[2]
    assert shown["metadata"] == {"n": "first"}
    for project in made:
        client.delete(f"/v1/projects/{project}")


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 400, "missing_required_parameter", "agent"),
        ({"agent": "nobody"}, 404, "model_not_found", "model"),
        ({"agent": "agent", "name": "n" * 201}, 400, "invalid_type", "name"),
        ({"agent": "agent", "metadata": {"k": "v" * 513}}, 400, "invalid_value", "metadata"),
        ({"agent": "opus"}, 400, "invalid_value", "agent"),
    ],
)
def test_what_makes_no_project_is_said(
    live: Stack, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    check_envelope(Client(live).post("/v1/projects", body), status, code, param=param)


def test_what_names_no_project_runs_nothing(live: Stack) -> None:
    client = Client(live)
    for wrong in ("proj_" + "0" * 32, "../..", "", "proj_x"):
        answer = client.send(say("No."), project_id=wrong)
        check_envelope(answer, 404, "project_not_found", param="project_id")
    check_envelope(client.get("/v1/projects/proj_x"), 404, "project_not_found", param="project_id")
    project = client.make()["id"]
    answer = client.send(say("No."), project_id=project, model="other")
    check_envelope(answer, 400, "invalid_value", param="project_id")
    check_envelope(client.delete("/v1/projects/agent"), 400, "unsupported", param="project_id")
    assert live.model.calls(client.marker) == []
    assert client.ask(say("Yes."), project_id="agent")["backline"]["agent"] == "agent"
    client.delete(f"/v1/projects/{project}")


def _names(data: Path) -> list[str]:
    return [place.name for place in data.glob("projects/*/*")]


def _holders(stack: Stack, project: str) -> int:
    with stack.redis_client() as client:
        records = [client.get(name) or b"" for name in client.scan_iter("backline:worker:*")]
    return sum(project.encode() in record for record in records)  # type: ignore[operator]


def _dead_pid() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
