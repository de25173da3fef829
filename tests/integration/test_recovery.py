"""A turn whose worker is lost goes on elsewhere: nothing shown is said twice, nothing done is done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from scripted_model import Script, call, say, script, text, think, tokens, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH
from tests.support.repository import GitRepository
from tests.support.stack import ALLOW_BASH, Stack
from tests.support.waiting import wait_for

SLOW = tokens(400, pace_ms=50)
MIDDLE = '"content":" t5'
"""A part of a stream's line when some of it has come."""


@pytest.fixture
def pair(new_stack: NewStack) -> Stack:
    """Two workers, one of which will be killed."""
    return new_stack(slots=2, warm=0, max_live=8, workers=2, was_killed=True)


def holder(stack: Stack) -> Any:
    """The worker that has a CLI."""
    return next(w for w in stack.workers if w.runs and psutil.Process(w.pid).children())


class Chat:
    """A client with a history whose every request may lose its worker."""

    def __init__(self, stack: Stack, **fields: Any) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"
        self.fields = fields
        self.messages: list[dict[str, str]] = []

    def body(self, said: str, reply: Script, **fields: Any) -> dict[str, Any]:
        self.messages.append({"role": "user", "content": f"{self.marker} {said} {reply}"})
        return {"model": "agent", "messages": self.messages, **self.fields, **fields}

    def ask(self, said: str, reply: Script) -> str:
        answer = httpx.post(self.stack.url + PATH, json=self.body(said, reply), timeout=50)
        assert answer.status_code == 200, answer.text
        return self.take(str(answer.json()["choices"][0]["message"]["content"]))

    def ask_and_kill(
        self, said: str, reply: Script, at: str, kill: Callable[[], object] | None = None, **fields: Any
    ) -> list[dict[str, Any]]:
        """Stream; kill the worker, or `kill`, when the text `at` has come; give all chunks."""
        chunks: list[dict[str, Any]] = []
        asked = self.body(said, reply, stream=True, **fields)
        with httpx.stream("POST", self.stack.url + PATH, json=asked, timeout=50) as answer:
            is_killed = False
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    chunks.append(json.loads(line.removeprefix("data: ")))
                if not is_killed and at in line:
                    (kill or holder(self.stack).kill)()
                    is_killed = True
        self.take(text_of(chunks))
        return chunks

    def take(self, words: str) -> str:
        self.messages.append({"role": "assistant", "content": words})
        return words

    def kinds(self) -> list[tuple[str, str]]:
        """Roles and kinds of blocks that reached the model last."""
        return [(r, b["type"]) for r, blocks in self.stack.model.calls(self.marker)[-1].turns for b in blocks]


def text_of(chunks: list[dict[str, Any]]) -> str:
    return "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c.get("choices"))


def test_an_answer_goes_on_where_it_stopped(pair: Stack) -> None:
    chat = Chat(pair)
    chat.ask("one", say("First."))
    chunks = chat.ask_and_kill("two", script(call(SLOW), call(text("and the rest."))), at=MIDDLE)
    said = text_of(chunks)
    shown, _, rest = said.rpartition("and the rest.")
    assert rest == ""
    assert shown.split() == [f"t{n}" for n in range(len(shown.split()))]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert [c["backline"]["resumed"] for c in chunks if "resumed" in c.get("backline", {})] == [True]
    last = pair.model.calls(chat.marker)[-1]
    assert [role for role, _ in last.turns] == ["user", "assistant", "user", "assistant", "user"]
    chat.ask("three", say("Third."))
    seen = [" ".join("".join(words).split()) for role, words in pair.model.calls(chat.marker)[-1].said]
    assert seen[3] == " ".join(said.split())


def test_what_the_agent_has_done_is_not_done_again(pair: Stack, tmp_path: Path) -> None:
    done = tmp_path / "done"
    plan = script(
        call(
            think("Hm."),
            text("I do it."),
            use_tool("Bash", {"command": f"echo once >> {done}; echo DONE-IT"}),
        ),
        call(SLOW),
        call(text("and the rest.")),
    )
    chat = Chat(pair)
    chunks = chat.ask_and_kill("Do it.", plan, at=MIDDLE)
    assert text_of(chunks).startswith("I do it.\n\nt0 ")
    assert text_of(chunks).endswith("and the rest.")
    assert done.read_text() == "once\n"
    assert chat.kinds() == [
        ("user", "text"),
        ("assistant", "thinking"),
        ("assistant", "text"),
        ("assistant", "tool_use"),
        ("user", "tool_result"),
        ("assistant", "text"),
        ("user", "text"),
    ]
    chat.ask("Thanks.", say("Welcome."))
    assert "DONE-IT" in pair.model.calls(chat.marker)[-1].everything


def test_a_tool_that_was_running_is_not_run_blindly_again(pair: Stack, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    plan = script(
        call(text("I begin."), use_tool("Bash", {"command": f"echo x >> {begun}; sleep 30"})),
        call(text("Its end is not known.")),
    )
    chat = Chat(pair)
    asked = chat.body("Do it.", plan)
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(httpx.post, pair.url + PATH, json=asked, timeout=50)
        wait_for(begun.exists, 20, "the tool runs")
        holder(pair).kill()
        body = answer.result(45).json()
    assert body["choices"][0]["message"]["content"] == "I begin.\n\nIts end is not known."
    assert begun.read_text() == "x\n"
    assert "not known" in str(chat.stack.model.calls(chat.marker)[-1].turns[-1])


def test_a_stored_conversation_holds_the_whole_answer(pair: Stack) -> None:
    conversation = httpx.post(f"{pair.url}/v1/conversations", json={}, timeout=10).json()["id"]
    chat = Chat(pair, conversation_id=conversation)
    said = text_of(chat.ask_and_kill("one", script(call(SLOW), call(text("and the rest."))), at=MIDDLE))
    chat.ask("two", say("Second."))
    seen = pair.model.calls(chat.marker)[-1].said
    assert [role for role, _ in seen] == ["user", "assistant", "user"]
    assert " ".join("".join(seen[1][1]).split()) == " ".join(said.split())


def test_what_was_begun_at_a_revision_is_ended_at_the_same(new_stack: NewStack, tmp_path: Path) -> None:
    """Its branch has moved on when the worker is lost."""
    pair = new_stack(slots=2, workers=2, was_killed=True, agent_versions="any")
    repository = GitRepository(pair.root / "agents")
    files = {"agent/.claude/settings.json": json.dumps(ALLOW_BASH), "agent/CLAUDE.md": "# It is WORD-ONE\n"}
    first = repository.commit(files, "v1")
    done = tmp_path / "done"
    plan = script(
        call(text("I do it."), use_tool("Bash", {"command": f"echo once >> {done}"})),
        call(SLOW),
        call(text("and the rest.")),
    )
    chat = Chat(pair, model="agent@main")

    def move_and_kill() -> None:
        repository.commit({"agent/CLAUDE.md": "# It is WORD-TWO\n"}, "v2")
        holder(pair).kill()

    chunks = chat.ask_and_kill("Do it.", plan, at=MIDDLE, kill=move_and_kill)
    assert text_of(chunks).startswith("I do it.\n\nt0 ")
    assert done.read_text() == "once\n"
    calls = pair.model.calls(chat.marker)
    assert all("WORD-ONE" in each.everything and "WORD-TWO" not in each.everything for each in calls)
    assert len(calls) == 3
    assert text_of(chunks).endswith("and the rest.")
    told = {each.get("backline", {}).get("agent_revision", first) for each in chunks}
    assert told == {first}


def test_a_client_may_choose_an_error_instead(pair: Stack) -> None:
    chat = Chat(pair)
    chunks = chat.ask_and_kill(
        "one",
        script(call(SLOW), call(text("never"))),
        at=MIDDLE,
        backline={"on_worker_loss": "fail"},
    )
    assert chunks[-1]["error"]["code"] == "worker_lost"


def test_a_whole_answer_may_begin_anew(pair: Stack) -> None:
    chat = Chat(pair)
    asked = chat.body("one", script(call(tokens(60, pace_ms=50))), backline={"on_worker_loss": "rerun"})
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(httpx.post, pair.url + PATH, json=asked, timeout=50)
        wait_for(lambda: pair.model.calls(chat.marker), 20, "the model speaks")
        wait_for(lambda: _has_shown_text(pair), 20, "something was shown")
        holder(pair).kill()
        body = answer.result(45).json()
    assert body["choices"][0]["message"]["content"].split() == [f"t{n}" for n in range(60)]


def _has_shown_text(stack: Stack) -> bool:
    with stack.redis_client() as client:
        log = next(client.scan_iter("backline:events:*"))
        return int(client.xlen(log)) > 5  # type: ignore[arg-type]


def test_a_stream_that_cannot_begin_anew_ends_in_an_error(pair: Stack) -> None:
    chat = Chat(pair)
    plan = script(call(tokens(60, pace_ms=50)))
    chunks = chat.ask_and_kill("one", plan, at=MIDDLE, backline={"on_worker_loss": "rerun"})
    assert chunks[-1]["error"]["code"] == "worker_lost"
