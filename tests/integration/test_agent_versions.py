"""A request may pin an agent to a tag or commit of its repository while the directory moves on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from scripted_model import Script, call, say, script, text, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH, check_envelope
from tests.support.batches import begin, end_of, line, results
from tests.support.model import Model
from tests.support.repository import GitRepository
from tests.support.sandbox import missing_sandbox
from tests.support.stack import Stack, running_stack

_POLICIES = '[other]\nagent_versions = "any"\n[closed]\nagent_versions = "off"\n'
_WORDS = ("WORD-ONE", "WORD-TWO", "WORD-NOW")


class Agents(NamedTuple):
    """Three agents in one repository: of `agent` requests may name tags, of `other` any, of `closed` none."""

    stack: Stack
    first: str
    second: str


@pytest.fixture(scope="module")
def agents(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    policies = tmp_path_factory.mktemp("policies") / "agents.toml"
    policies.write_text(_POLICIES)
    with running_stack(model, workers=0, slots=4, max_live=8, agents_file=policies) as stack:
        stack.make_agent("closed")
        yield Agents(stack, *commit_two(stack))


def commit_two(stack: Stack) -> tuple[str, str]:
    """Two tagged commits and a directory beyond both, served by a worker."""
    repository = GitRepository(stack.root / "agents")
    names = ("agent", "other", "closed")
    commits = [
        repository.commit({f"{name}/CLAUDE.md": f"# It is WORD-{word}\n" for name in names}, tag)
        for tag, word in (("v1", "ONE"), ("team/v2", "TWO"))
    ]
    for name in names:
        (stack.root / "agents" / name).mkdir(exist_ok=True)
        (stack.root / "agents" / name / "CLAUDE.md").write_text("# It is WORD-NOW\n")
    stack.start_worker(tuple(name for name in names if (stack.root / "agents" / name / ".claude").is_dir()))
    stack.wait_ready()
    return commits[0], commits[1]


def post(stack: Stack, path: str = PATH, **body: Any) -> httpx.Response:
    return httpx.post(f"{stack.url}{path}", json=body, timeout=50)


def ask(
    stack: Stack, model: str, marker: str, *, script: Script | None = None, **fields: Any
) -> httpx.Response:
    messages = [{"role": "user", "content": f"{marker} {script or say('Done.')}"}]
    return post(stack, model=model, messages=messages, **fields)


def seen(stack: Stack, marker: str) -> list[str]:
    """Which state of the agent each call of the model was told of last."""
    return [max(_WORDS, key=call.everything.rfind) for call in stack.model.calls(marker)]


def test_each_tag_is_what_the_agent_was_then(agents: Agents, marker: str) -> None:
    stack = agents.stack
    for name, word, commit in (
        ("agent@v1", "WORD-ONE", agents.first),
        ("agent@team/v2", "WORD-TWO", agents.second),
        ("agent", "WORD-NOW", None),
        ("agent@v1/opus", "WORD-ONE", agents.first),
    ):
        answer = ask(stack, name, f"{marker}-{word}-{name.count('/')}")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["model"], body["backline"]["agent"]) == (name, "agent")
        assert body["backline"].get("agent_revision") == commit
        (told,) = stack.model.calls(f"{marker}-{word}-{name.count('/')}")
        assert [each for each in _WORDS if each in told.everything] == [word]
    assert "opus" in stack.model.calls(f"{marker}-WORD-ONE-1")[-1].body["model"]
    assert (stack.root / "agents/agent/CLAUDE.md").read_text() == "# It is WORD-NOW\n"


def test_a_conversation_goes_on_at_its_tag_in_a_process_of_its_own(agents: Agents, marker: str) -> None:
    stack = agents.stack
    asked: list[dict[str, str]] = []
    sessions = []
    for name in ("agent@v1", "agent@v1", "agent"):
        prompt = {"role": "user", "content": f"{marker} {say('Done.')}"}
        answer = post(stack, model=name, messages=[*asked, prompt])
        assert answer.status_code == 200, answer.text
        asked += [prompt, {"role": "assistant", "content": "Done."}]
        sessions.append(answer.json()["backline"]["session_id"])
    assert seen(stack, marker) == ["WORD-ONE", "WORD-ONE", "WORD-NOW"]
    assert "WORD-ONE" not in stack.model.calls(marker)[-1].everything
    assert sessions[0] == sessions[1] != sessions[2]


def test_a_stored_conversation_is_told_by_the_revision_that_each_turn_names(
    agents: Agents, marker: str
) -> None:
    stack = agents.stack
    conversation = post(stack, "/v1/conversations", model="agent").json()["id"]
    for name in ("agent@v1", "agent@team/v2", "agent"):
        answer = ask(stack, name, marker, conversation_id=conversation)
        assert answer.status_code == 200, answer.text
    assert seen(stack, marker) == ["WORD-ONE", "WORD-TWO", "WORD-NOW"]
    assert len(stack.model.calls(marker)[-1].said) == 5
    refused = post(stack, "/v1/conversations", model="agent@v1")
    check_envelope(refused, 400, "invalid_value", param="model")


def test_a_tag_that_was_moved_is_what_it_now_is(agents: Agents, marker: str) -> None:
    stack, repository = agents.stack, GitRepository(agents.stack.root / "agents")
    asked: list[dict[str, str]] = []
    for commit in (agents.first, agents.second):
        repository.git("tag", "--force", "moving", commit)
        prompt = {"role": "user", "content": f"{marker} {say('Done.')}"}
        answer = post(stack, model="agent@moving", messages=[*asked, prompt])
        assert answer.json()["backline"]["agent_revision"] == commit
        asked += [prompt, {"role": "assistant", "content": "Done."}]
    assert seen(stack, marker) == ["WORD-ONE", "WORD-TWO"]


def test_every_protocol_takes_a_revision(agents: Agents, marker: str) -> None:
    stack, said = agents.stack, f"{marker} {say('Done.')}"
    messages = [{"role": "user", "content": said}]
    answers = [
        post(stack, "/v1/messages", model="agent@v1", messages=messages, max_tokens=99),
        post(stack, "/v1/responses", model="agent@v1", input=said),
        post(stack, "/v1/completions", model="agent@v1", prompt=said),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3, [answer.text for answer in answers]
    assert {answer.json()["model"] for answer in answers} == {"agent@v1"}
    assert {answer.json()["backline"]["agent_revision"] for answer in answers} == {agents.first}
    assert seen(stack, marker) == ["WORD-ONE"] * 3


async def test_lines_of_a_batch_take_revisions(agents: Agents, marker: str) -> None:
    stack = agents.stack
    lines = [line(name, marker, say("Done."), model=f"agent@{name}") for name in ("v1", "v9")]
    async with stack.sdk() as sdk:
        batch = await end_of(sdk, await begin(sdk, lines))
        (answered,) = await results(sdk, batch.output_file_id)
        (failed,) = await results(sdk, batch.error_file_id)
    assert answered["response"]["body"]["model"] == "agent@v1"
    assert failed["custom_id"] == "v9"
    assert "no tag 'v9'" in str(failed)
    assert seen(stack, marker) == ["WORD-ONE"]


def test_a_commit_is_a_revision_where_any_is_allowed(agents: Agents, marker: str) -> None:
    stack = agents.stack
    assert ask(stack, f"other@{agents.first[:12]}", marker).status_code == 200
    assert seen(stack, marker) == ["WORD-ONE"]


@pytest.mark.parametrize(
    "name",
    [
        *("agent@v9", "agent@main", "agent@HEAD", "agent@{first}", "closed@v1", "other@0000000000"),
        *("agent@", "agent@--all", "agent@-x/opus", "agent@v1..main", "agent@v1^", "agent@v1:CLAUDE.md"),
        *("nobody@v1", "opus@v1", "agent@" + "x" * 101),
    ],
)
async def test_what_is_no_revision_of_the_agent_is_no_model(agents: Agents, name: str) -> None:
    name = name.format(first=agents.first)
    marker = f"marker-{uuid4().hex}"
    answer = ask(agents.stack, name, marker, stream=True)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found"), answer.text
    assert answer.json()["error"]["message"]
    messages = [{"role": "user", "content": marker}]
    answer = post(agents.stack, "/v1/messages", model=name, messages=messages, max_tokens=99)
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "not_found_error"), answer.text
    assert not agents.stack.model.calls(marker)


def test_a_directory_that_is_in_no_repository_has_no_revisions(stack: Stack, marker: str) -> None:
    answer = ask(stack, "agent@v1", marker)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "no git repository" in answer.json()["error"]["message"]


@pytest.mark.skipif(bool(missing_sandbox()), reason=f"no sandbox: {missing_sandbox()}")
@pytest.mark.timeout(120)
def test_what_a_revision_writes_in_the_sandbox_no_later_run_finds(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(workers=0, sandbox="bubblewrap", credential_proxy="on")
    commit_two(stack)
    command = "echo planted > CLAUDE.md; echo planted > new.txt; tr a-z A-Z < new.txt"
    writes = script(call(use_tool("Bash", {"command": command})), call(text("Written.")))
    answer = ask(stack, "agent@v1", marker, script=writes, claude_options={"permission_mode": "dontAsk"})
    assert answer.status_code == 200, answer.text
    assert "PLANTED" in stack.model.calls(marker)[-1].everything
    (checkout,) = (stack.data / "versions/agent").iterdir()
    assert sorted(place.name for place in checkout.iterdir()) == [".claude", "CLAUDE.md"]
    assert (checkout / "CLAUDE.md").read_text() == "# It is WORD-ONE\n"
    assert (stack.root / "agents/agent/CLAUDE.md").read_text() == "# It is WORD-NOW\n"
    assert not list(Path(stack.root / "agents").rglob("new.txt"))
