"""A plain client that sends its whole history each time gets a live conversation, and the right one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripted_model import Script, call, say, script, text, think, tokens, use_tool
from tests.conftest import NewStack
from tests.support.asking import PATH
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for

CONVERSATIONS = int(os.environ.get("SOAK_CONVERSATIONS", "12"))
"""How many share a few places; a soak asks for hundreds, with a time limit to match (`--timeout`)."""

Messages = list[dict[str, str]]


@pytest.fixture(scope="module")
def live(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, warm=1, max_live=8) as stack:
        yield stack


class Chat:
    """A client with a history; every word it says carries its marker."""

    def __init__(self, stack: Stack, system: str | None = None) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"
        self.system = system
        self.messages: Messages = []
        self.session_ids: list[str] = []

    def request(self, said: str, reply: Script) -> dict[str, Any]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        prompt = {"role": "user", "content": f"{self.marker} {said} {reply}"}
        return {"model": "agent", "messages": [*system, *self.messages, prompt]}

    def ask(self, said: str, reply: Script | None = None) -> str:
        request = self.request(said, reply or say(f"answer to {said}"))
        answer = httpx.post(self.stack.url + PATH, json=request, timeout=50)
        return self.take(request, answer)

    def take(self, request: dict[str, Any], answer: httpx.Response) -> str:
        assert answer.status_code == 200, answer.text
        body = answer.json()
        words = str(body["choices"][0]["message"]["content"])
        said = [message for message in request["messages"] if message["role"] != "system"]
        self.messages = [*said, {"role": "assistant", "content": words}]
        self.session_ids.append(body["backline"]["session_id"])
        return words

    def check_model_saw(self, said: str) -> None:
        """The model's call for the turn that said `said` had the client's messages, turn for turn."""
        calls = [c for c in self.stack.model.calls(self.marker) if said in str(c.said[-1])]
        assert calls, f"no call ends in {said!r}"
        index = next(i for i, m in enumerate(self.messages) if m["role"] == "user" and said in m["content"])
        expected = [(m["role"], m["content"].strip()) for m in self.messages[: index + 1]]
        seen = [(role, "".join(texts).strip()) for role, texts in calls[-1].said]
        assert seen == expected
        if self.system:
            assert self.system in calls[-1].system


def pids(stack: Stack, agent: str = "agent") -> set[int]:
    """The CLI processes that the stack's workers have for an agent."""
    place = str(stack.root / "agents" / agent)
    found: set[int] = set()
    for child in (c for w in stack.workers if w.runs for c in psutil.Process(w.pid).children()):
        with suppress(psutil.Error):  # it has just ended
            if child.cwd() == place:
                found.add(child.pid)
    return found


def test_the_next_turn_goes_to_the_process_that_holds_the_conversation(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8)
    chat = Chat(stack, system="SYSTEM-WORD")
    chat.ask("one")
    first = pids(stack)
    assert len(first) == 1
    for said in ("two", "three", "four"):
        chat.ask(said)
        chat.check_model_saw(said)
        assert pids(stack) == first
    assert len(set(chat.session_ids)) == 1


def test_usage_and_cost_are_the_turns_own(live: Stack) -> None:
    chat = Chat(live)
    costs = []
    for said in ("one", "two", "three"):
        request = chat.request(said, say("short"))
        answer = httpx.post(live.url + PATH, json=request, timeout=50)
        costs.append(answer.json()["backline"]["cost_usd"])
        chat.take(request, answer)
    assert max(costs) < 1.5 * min(costs)


def test_a_sampling_wish_holds_for_its_own_turn_only(live: Stack) -> None:
    chat = Chat(live)
    for said, extra in (("one", {}), ("two", {"max_tokens": 77}), ("three", {})):
        request = {**chat.request(said, say("fine")), **extra}
        chat.take(request, httpx.post(live.url + PATH, json=request, timeout=50))
    limits = [c.body["max_tokens"] for c in live.model.calls(chat.marker)]
    assert limits[1] == 77
    assert limits[0] == limits[2] != 77
    assert len(set(chat.session_ids)) == 1


def test_a_conversation_survives_its_worker_with_tools_and_thinking(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8, workers=2, was_killed=True)
    chat = Chat(stack)
    look = script(
        call(think("deep thought"), text("Looking."), use_tool("Bash", {"command": "echo seen"})),
        call(text("Done.")),
    )
    assert chat.ask("one", look) == "Looking.\n\nDone."
    holder = next(w for w in stack.workers if psutil.Process(w.pid).children())
    holder.kill()
    chat.ask("two")
    calls = stack.model.calls(chat.marker)
    kinds = [block["type"] for _, blocks in calls[-1].turns for block in blocks]
    assert kinds == ["text", "thinking", "text", "tool_use", "tool_result", "text", "text"]
    assert len(set(chat.session_ids)) == 1


def test_clients_that_race_on_one_conversation_both_get_the_right_one(live: Stack) -> None:
    first = Chat(live)
    first.ask("one")
    second = Chat(live)
    second.marker, second.messages = first.marker, list(first.messages)

    async def race() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=50) as http:
            requests = [
                first.request("left", say("to the left")),
                second.request("right", say("to the right")),
            ]
            answers = await asyncio.gather(*(http.post(live.url + PATH, json=r) for r in requests))
            first.take(requests[0], answers[0])
            second.take(requests[1], answers[1])
            return list(answers)

    asyncio.run(race())
    for chat, said in ((first, "left"), (second, "right")):
        chat.check_model_saw(said)
        chat.ask(f"after {said}")
        chat.check_model_saw(f"after {said}")


def test_an_evicted_conversation_goes_on(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=1)
    chats = [Chat(stack), Chat(stack), Chat(stack)]
    for said in ("one", "two"):
        for chat in chats:
            chat.ask(said)
            chat.check_model_saw(said)
    assert all(len(set(chat.session_ids)) == 1 for chat in chats)
    wait_for(lambda: len(pids(stack)) <= 1, 10, "only one conversation is kept live")


def test_a_process_that_has_served_its_turns_is_replaced(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8, max_turns_per_process=2)
    chat = Chat(stack)
    served: list[set[int]] = []
    for said in ("one", "two", "three"):
        chat.ask(said)
        chat.check_model_saw(said)
        served.append(pids(stack))
    assert not served[0] & served[2]
    assert len(set(chat.session_ids)) == 1


def test_no_conversation_is_kept_live_beyond_the_memory_budget(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=1, max_live=8, memory_budget_bytes=1_000_000)
    chat = Chat(stack)
    for said in ("one", "two"):
        chat.ask(said)
        chat.check_model_saw(said)
        wait_for(lambda: not pids(stack), 10, "nothing is kept")


def test_a_conversation_that_lapsed_is_told_again_from_the_clients_own_words(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=1, max_live=8, session_ttl_s=1, session_idle_s=1)
    chat = Chat(stack)
    chat.ask("one")

    def lapsed() -> bool:
        with stack.redis_client() as client:
            return not list(client.scan_iter("backline:prefix:*"))

    wait_for(lapsed, 10, "the session lapses")
    chat.ask("two")
    chat.check_model_saw("two")


def test_redis_may_forget_everything_between_two_turns(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=0, max_live=8)
    chat = Chat(stack)
    chat.ask("one")
    with stack.redis_client() as client:
        client.flushall()
    stack.wait_ready()
    chat.ask("two")
    chat.check_model_saw("two")


def test_a_changed_agent_directory_retires_its_processes(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=1, max_live=8)
    chat = Chat(stack)
    chat.ask("one")
    before = pids(stack)
    (stack.root / "agents/agent/CLAUDE.md").write_text("# Changed\n\nNEW-WORD\n")
    wait_for(lambda: not before & pids(stack), 15, "all processes of the old directory are gone")
    chat.ask("two")
    chat.check_model_saw("two")
    fresh = Chat(stack)
    fresh.ask("anew")
    assert "NEW-WORD" in stack.model.calls(fresh.marker)[-1].everything


def test_a_cancelled_turn_leaves_no_trace_in_the_conversation(live: Stack) -> None:
    chat = Chat(live)
    chat.ask("one")
    request = {**chat.request("never", script(tokens(400, pace_ms=50))), "stream": True}
    with httpx.stream("POST", live.url + PATH, json=request, timeout=50) as answer:
        lines = answer.iter_lines()
        wait_for(lambda: '"content":"t0' in next(lines), 20, "the answer begins")
    chat.ask("two")
    chat.check_model_saw("two")


def test_many_conversations_share_few_places(new_stack: NewStack) -> None:
    stack = new_stack(slots=4, warm=0, max_live=4, workers=2)
    chats = [Chat(stack) for _ in range(CONVERSATIONS)]

    async def all_ask(said: str) -> None:
        async with httpx.AsyncClient(timeout=600, limits=httpx.Limits(max_connections=None)) as http:
            requests = [chat.request(said, say(f"{said} it is")) for chat in chats]
            answers = await asyncio.gather(*(http.post(stack.url + PATH, json=r) for r in requests))
        for chat, request, answer in zip(chats, requests, answers, strict=True):
            chat.take(request, answer)

    for said in ("one", "two", "three"):
        asyncio.run(all_ask(said))
    for chat in chats:
        chat.check_model_saw("three")


@pytest.mark.timeout(150)
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    system=st.sampled_from([None, "SYSTEM-A", "SYSTEM-B"]),
    moves=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(["go on", "edit question", "edit answer"])),
        min_size=2,
        max_size=6,
    ),
)
def test_the_model_sees_the_clients_messages_whatever_was_edited(
    live: Stack, system: str | None, moves: list[tuple[int, str]]
) -> None:
    """Any tree of continuations, branches, edits and regenerations, as a stateless server would see it."""
    chat = Chat(live, system)
    places: list[Messages] = [[]]
    for number, (place, move) in enumerate(moves):
        history = [dict(message) for message in places[place % len(places)]]
        if history and move != "go on":
            index = 0 if move == "edit question" else 1
            history[index]["content"] += f" EDITED-{number}"
        chat.messages = list(history)
        said = f"move-{number}-{uuid4().hex[:6]}"
        chat.ask(said)
        chat.check_model_saw(said)
        places.append(list(chat.messages))


def test_openais_client_needs_nothing_else(live: Stack) -> None:
    with live.sync_sdk() as sdk:
        messages: list[Any] = [{"role": "user", "content": str(say("first"))}]
        first = sdk.chat.completions.create(model="agent", messages=messages)
        messages += [first.choices[0].message, {"role": "user", "content": str(say("second"))}]
        second = sdk.chat.completions.create(model="agent", messages=messages)
    assert second.choices[0].message.content == "second"
    assert first.backline["session_id"] == second.backline["session_id"]  # type: ignore[attr-defined]
