"""A conversation goes on by its id alone: the right one, on any host, or a clear 404."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from scripted_model import call, script, text, think, tokens, use_tool
from tests.support.asking import PATH, check_envelope
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.talking import Talk


@pytest.fixture(scope="module")
def live(model: Model) -> Iterator[Stack]:
    with running_stack(model, slots=8, warm=1, max_live=8, history_limit=50) as stack:
        yield stack


def test_a_conversation_goes_on_by_its_id_alone(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin(metadata={"topic": "tests"})
    first = talk.send(
        "one", before=[{"role": "system", "content": "SYSTEM-WORD"}], conversation_id=conversation
    )
    assert first.headers["x-backline-conversation-id"] == conversation
    assert first.headers["x-backline-session-id"] == first.json()["backline"]["session_id"]
    for said in ("two", "three"):
        assert talk.ask(said, conversation_id=conversation)["backline"]["conversation_id"] == conversation
    assert talk.saw() == ["one", "answer to one", "two", "answer to two", "three"]
    assert "SYSTEM-WORD" in live.model.calls(talk.marker)[-1].system
    shown = talk.get(f"/v1/conversations/{conversation}")
    assert shown["metadata"] == {"topic": "tests"}
    assert (shown["backline"]["turns"], shown["backline"]["agent"]) == (3, "agent")
    assert shown["backline"]["cost_usd"] > 0


def test_of_messages_only_what_follows_the_last_answer_is_new(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    invented = [{"role": "user", "content": "never said"}, {"role": "assistant", "content": "never answered"}]
    talk.ask("two", before=invented, conversation_id=conversation)
    assert talk.saw() == ["one", "answer to one", "two"]


def test_a_first_request_may_bring_a_history(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    brought = [{"role": "user", "content": "before"}, {"role": "assistant", "content": "indeed"}]
    talk.ask("one", before=brought, conversation_id=conversation)
    talk.ask("two", conversation_id=conversation)
    assert talk.saw() == ["before", "indeed", "one", "answer to one", "two"]
    items = talk.get(f"/v1/conversations/{conversation}/items?order=asc")["data"]
    assert [item["role"] for item in items] == ["user", "assistant"] * 3


def test_a_stream_names_its_conversation(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    answer = talk.send("one", conversation_id=conversation, stream=True)
    frames = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert frames[-1]["backline"]["conversation_id"] == conversation
    assert answer.headers["x-backline-conversation-id"] == conversation


def test_a_session_goes_on_by_its_id_and_as_the_newest(live: Stack) -> None:
    talk = Talk(live)
    session = talk.ask("one")["backline"]["session_id"]
    talk.ask("two", claude_options={"session_id": session})
    answer = talk.ask("three", claude_options={"continue": True, "odd": True})
    assert talk.saw() == ["one", "answer to one", "two", "answer to two", "three"]
    assert answer["backline"]["session_id"] == session
    assert answer["backline"]["ignored"] == ["claude_options.odd"]
    assert "conversation_id" not in answer["backline"]


def test_another_model_goes_on_with_the_same_conversation(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    talk.ask("two", conversation_id=conversation, model="agent/claude-haiku-4-5")
    assert talk.saw() == ["one", "answer to one", "two"]
    assert live.model.calls(talk.marker)[-1].body["model"] == "claude-haiku-4-5"
    talk.ask("three", conversation_id=conversation, model="claude-haiku-4-5")
    assert talk.saw() == ["one", "answer to one", "two", "answer to two", "three"]


@pytest.mark.parametrize(
    ("fields", "param", "code", "status"),
    [
        ({"conversation_id": "conv_" + "0" * 48}, "conversation_id", "conversation_not_found", 404),
        ({"conversation_id": ""}, "conversation_id", "conversation_not_found", 404),
        (
            {"claude_options": {"session_id": str(uuid4())}},
            "claude_options.session_id",
            "session_not_found",
            404,
        ),
        (
            {"claude_options": {"continue": True}, "model": "other"},
            "claude_options.continue",
            "session_not_found",
            404,
        ),
        (
            {"conversation_id": "conv_1", "claude_options": {"continue": True}},
            "claude_options.continue",
            "invalid_value",
            400,
        ),
        ({"claude_options": {"continue": "yes"}}, "claude_options.continue", "invalid_type", 400),
        ({"conversation_id": 7}, "conversation_id", "invalid_type", 400),
    ],
)
def test_what_is_nowhere_is_refused_by_name(
    live: Stack, fields: dict[str, Any], param: str, code: str, status: int
) -> None:
    talk = Talk(live)
    check_envelope(talk.send("one", **fields), status, code, param=param)
    assert live.model.calls(talk.marker) == []


def test_a_conversation_stays_with_its_agent(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin(agent="agent")
    answer = talk.send("one", conversation_id=conversation, model="other")
    check_envelope(answer, 400, "invalid_value", param="conversation_id")


def test_a_history_beyond_the_limit_is_refused(live: Stack) -> None:
    before = [{"role": "user", "content": "x"}] * 50
    check_envelope(Talk(live).send("one", before=before), 400, "array_above_max_length", param="messages")


def test_of_two_clients_on_one_conversation_one_goes_on(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    talk.ask("one", conversation_id=conversation)
    with ThreadPoolExecutor() as threads:
        racing = [threads.submit(talk.ask, said, conversation_id=conversation) for said in ("left", "right")]
        for asked in racing:
            asked.result(50)
    talk.ask("last", conversation_id=conversation)
    seen = talk.saw()
    held = seen[2:-1:2]  # both, when one was over before the other began
    assert held in (["left"], ["right"], ["left", "right"], ["right", "left"])
    answered = [words for said in held for words in (said, f"answer to {said}")]
    assert seen == ["one", "answer to one", *answered, "last"]
    assert talk.get(f"/v1/conversations/{conversation}")["backline"]["turns"] == 2 + len(held)


def test_conversations_with_the_same_words_stay_apart(live: Stack) -> None:
    talk = Talk(live)
    first, second = talk.begin(), talk.begin()
    sessions = {
        talk.ask("one", conversation_id=conversation)["backline"]["session_id"]
        for conversation in (first, second)
    }
    assert len(sessions) == 2
    assert talk.http.delete(f"/v1/conversations/{second}").json() == {
        "id": second,
        "object": "conversation.deleted",
        "deleted": True,
    }
    talk.ask("two", conversation_id=first)
    assert talk.saw() == ["one", "answer to one", "two"]
    check_envelope(
        talk.send("two", conversation_id=second), 404, "conversation_not_found", param="conversation_id"
    )


def test_a_reserved_session_begins_with_its_first_turn(live: Stack) -> None:
    talk = Talk(live)
    reserved = talk.http.post("/v1/sessions", json={"agent": "agent"}).json()
    assert reserved["session_id"] is None
    assert reserved["id"] == reserved["conversation_id"]
    for said in ("one", "two"):
        talk.ask(said, claude_options={"session_id": reserved["id"]})
    assert talk.saw() == ["one", "answer to one", "two"]
    assert talk.get(f"/v1/sessions/{reserved['id']}")["turns"] == 2


def test_items_show_the_agents_tools_when_asked(live: Stack) -> None:
    talk = Talk(live)
    conversation = talk.begin()
    look = script(
        call(think("hm"), text("Looking."), use_tool("Bash", {"command": "echo seen"})), call(text("Done."))
    )
    prompt = {"role": "user", "content": f"{talk.marker} {look}"}
    answer = talk.http.post(
        PATH, json={"model": "agent", "messages": [prompt], "conversation_id": conversation}
    )
    assert answer.status_code == 200, answer.text
    path = f"/v1/conversations/{conversation}/items"
    plain = talk.get(path)
    assert [item["role"] for item in plain["data"]] == ["assistant", "user"]
    assert [part["text"] for part in plain["data"][0]["content"]] == ["Looking.", "Done."]
    assert (plain["first_id"], plain["has_more"]) == (plain["data"][0]["id"], False)
    with_tools = talk.get(f"{path}?include=tools&order=asc")["data"]
    assert [item["type"] for item in with_tools] == ["message", "message", "backline_tool", "message"]
    assert (with_tools[2]["name"], with_tools[2]["output"]) == ("Bash", "seen")
    page = talk.get(f"{path}?order=asc&limit=1")
    assert page["has_more"]
    after = talk.get(f"{path}?order=asc&after={page['last_id']}")
    assert [item["role"] for item in after["data"]] == ["assistant"]
    assert talk.get(f"{path}/{page['last_id']}") == page["data"][0]
    assert talk.http.get(f"{path}/msg_0").status_code == 404


def test_openais_client_manages_conversations(live: Stack) -> None:
    talk = Talk(live)
    with live.sync_sdk() as sdk:
        made = sdk.conversations.create(metadata={"a": "1"})
        talk.ask("one", conversation_id=made.id)
        assert sdk.conversations.retrieve(made.id).metadata == {"a": "1"}
        assert sdk.conversations.update(made.id, metadata={"b": "2"}).metadata == {"b": "2"}
        items = list(sdk.conversations.items.list(made.id, order="asc", limit=1))
        assert [getattr(item, "role", None) for item in items] == ["user", "assistant"]
        assert sdk.conversations.delete(made.id).deleted
    check_envelope(
        talk.http.get(f"/v1/conversations/{made.id}"), 404, "conversation_not_found", param="conversation_id"
    )


async def test_a_running_completion_is_shown_and_stopped_by_its_id(live: Stack, marker: str) -> None:
    async with live.http() as http:
        prompt = {"role": "user", "content": f"{marker} {script(tokens(400, pace_ms=50))}"}
        body = {"model": "agent", "messages": [prompt], "stream": True}
        async with http.stream("POST", PATH, json=body) as stream:
            lines = stream.aiter_lines()
            first = json.loads((await anext(lines)).removeprefix("data: "))
            path = f"{PATH}/{first['id']}"
            status = (await http.get(f"{path}/status")).json()
            assert (status["state"], status["attempt"], status["agent"]) == ("running", 1, "agent")
            assert status["run_id"] == stream.headers["x-backline-run-id"]
            assert (await http.delete(path)).json()["deleted"] is True
            async with asyncio.timeout(10):
                rest = [line async for line in lines if line.startswith("data: ")]
        assert json.loads(rest[-1].removeprefix("data: "))["error"]["code"] == "run_cancelled"
        assert (await http.get(f"{path}/status")).json()["state"] == "cancelled"
        assert (await http.delete(path)).json()["deleted"] is False
        for wrong in ("chatcmpl-0", "chatcmpl-" + "0" * 44, "run_0"):
            answer = await http.get(f"{PATH}/{wrong}/status")
            check_envelope(answer, 404, "completion_not_found", param="completion_id")
