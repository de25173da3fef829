"""Items that a client adds are told to the model once, before the next turn; what it deletes never again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openai import OpenAI

from scripted_model import Script, call, fail, say, script, text, think, tokens, use_tool
from tests.support.asking import PATH, check_envelope, user
from tests.support.model import Model
from tests.support.stack import Stack, running_stack
from tests.support.waiting import wait_for

Said = list[tuple[str, list[str]]]


@pytest.fixture(scope="module", params=[8, 0], ids=["live", "resumed"])
def kept(model: Model, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Conversations go on in their process, or are resumed by a new one."""
    with running_stack(model, slots=8, warm=1, max_live=request.param) as stack:
        yield stack


class Talk:
    """A conversation and its items."""

    def __init__(self, stack: Stack, **fields: Any) -> None:
        self.stack = stack
        self.marker = f"marker-{uuid4().hex}"
        answer = httpx.post(f"{stack.url}/v1/conversations", json=fields, timeout=50)
        assert answer.status_code == 200, answer.text
        self.id = str(answer.json()["id"])
        self.items = f"{stack.url}/v1/conversations/{self.id}/items"

    def send(self, asked: Script | str) -> httpx.Response:
        body = {"model": "agent", "messages": [user(self.marker, asked)], "conversation_id": self.id}
        return httpx.post(self.stack.url + PATH, json=body, timeout=50)

    def ask(self, asked: Script | str) -> None:
        answer = self.send(asked)
        assert answer.status_code == 200, answer.text

    def add(self, *items: dict[str, Any]) -> list[dict[str, Any]]:
        answer = httpx.post(self.items, json={"items": items}, timeout=50)
        assert answer.status_code == 200, answer.text
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    def listed(self) -> list[dict[str, Any]]:
        data: list[dict[str, Any]] = httpx.get(f"{self.items}?order=asc&limit=100", timeout=50).json()["data"]
        return data

    def texts(self) -> Said:
        """What the list shows, less this test's scripts."""
        return [(i["role"], [self._short(part["text"]) for part in i["content"]]) for i in self.listed()]

    def delete(self, item_id: str) -> httpx.Response:
        return httpx.delete(f"{self.items}/{item_id}", timeout=50)

    def saw(self) -> Said:
        """What the model's newest call held, less this test's scripts."""
        said = self.stack.model.calls(self.marker)[-1].said
        return [(role, [self._short(text) for text in texts]) for role, texts in said]

    def _short(self, said: str) -> str:
        return said.removeprefix(self.marker).strip().partition(" <<")[0].partition("<<")[0] or "PROMPT"


def message(role: str, content: object) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": content}


def test_items_of_a_new_conversation_come_before_its_first_turn(kept: Stack) -> None:
    talk = Talk(
        kept,
        items=[
            message("developer", "DEVELOPER-WORD"),
            message("user", [{"type": "input_text", "text": "Before."}]),
            message("assistant", [{"type": "output_text", "text": "Indeed."}]),
            message("user", "And"),
        ],
    )
    shown = talk.texts()
    assert shown[1:] == [("user", ["Before."]), ("assistant", ["Indeed."]), ("user", ["And"])]
    talk.ask(say("One."))
    assert talk.saw() == [("user", ["Before."]), ("assistant", ["Indeed."]), ("user", ["And", "PROMPT"])]
    assert "DEVELOPER-WORD" in kept.model.calls(talk.marker)[-1].system
    talk.ask(say("Two."))
    assert len(talk.saw()) == 5
    assert "DEVELOPER-WORD" in kept.model.calls(talk.marker)[-1].system


def test_added_items_are_true_turns_before_the_next_prompt_and_told_once(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    first = [("user", ["PROMPT"]), ("assistant", ["One."])]
    assert talk.texts() == first
    talk.add(message("user", "Added."), message("assistant", "Noted."))
    talk.add(message("developer", "Mind this."))
    assert talk.texts() == [
        *first,
        ("user", ["Added."]),
        ("assistant", ["Noted."]),
        ("developer", ["Mind this."]),
    ]
    talk.ask(say("Two."))
    told = [*first, ("user", ["Added."]), ("assistant", ["Noted."]), ("user", ["Mind this.", "PROMPT"])]
    assert talk.saw() == told
    assert talk.texts() == [*told, ("assistant", ["Two."])]
    talk.ask(say("Three."))
    assert talk.saw() == [*told, ("assistant", ["Two."]), ("user", ["PROMPT"])]


def test_an_assistants_item_after_an_answer_has_a_users_turn_before_it(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    talk.add(message("assistant", "By the way."))
    talk.ask(say("Two."))
    assert talk.saw()[2:] == [("user", ["."]), ("assistant", ["By the way."]), ("user", ["PROMPT"])]


def test_a_turn_that_fails_takes_no_items(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    (added,) = talk.add(message("user", "Added."))
    assert talk.send(script(fail(400))).status_code == 400
    assert talk.listed()[-1]["id"] == added["id"]
    talk.ask(say("Two."))
    assert talk.saw()[2:] == [("user", ["Added.", "PROMPT"])]
    talk.ask(say("Three."))
    assert talk.saw()[2:4] == [("user", ["Added.", "PROMPT"]), ("assistant", ["Two."])]


def test_of_two_turns_that_tell_an_item_the_conversation_holds_one(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    talk.add(message("user", "Added."))
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(talk.send, script(text("Slow. "), tokens(60, pace_ms=100)))
        wait_for(lambda: len(kept.model.calls(talk.marker)) == 2, 20, "the slow turn is under way")
        talk.ask(say("Fast."))
        talk.add(message("user", "Later."))
        assert slow.result().status_code == 200
    assert talk.saw()[-1] == ("user", ["Added.", "PROMPT"])
    talk.ask(say("Last."))
    assert talk.saw()[2:] == [
        ("user", ["Added.", "PROMPT"]),
        ("assistant", ["Fast."]),
        ("user", ["Later.", "PROMPT"]),
    ]


def test_an_item_that_was_taken_back_is_never_told(kept: Stack) -> None:
    talk = Talk(kept)
    one, two = talk.add(message("user", "One."), message("user", "Two."))
    assert talk.delete(one["id"]).json()["id"] == talk.id
    check_envelope(talk.delete(one["id"]), 404, "item_not_found", param="item_id")
    assert [item["id"] for item in talk.listed()] == [two["id"]]
    talk.ask(say("Answer."))
    assert talk.saw() == [("user", ["Two.", "PROMPT"])]


def test_a_deleted_message_is_not_told_again(kept: Stack) -> None:
    talk = Talk(kept)
    for said in ("One.", "Two.", "Three."):
        talk.ask(f"to {said} {say(said)}")
    before = talk.listed()
    session = httpx.get(f"{kept.url}/v1/conversations/{talk.id}", timeout=50).json()["backline"]["session_id"]
    answer = talk.delete(before[3]["id"])
    assert answer.status_code == 200, answer.text
    assert answer.json()["backline"]["session_id"] != session
    assert answer.json()["backline"]["turns"] == 3
    assert [item["id"] for item in talk.listed()] == [i["id"] for n, i in enumerate(before) if n != 3]
    talk.ask(say("Four."))
    assert _flat(talk.saw()) == ["to One.", "One.", "to Two.", "to Three.", "Three.", "PROMPT"]
    assert talk.delete(before[4]["id"]).status_code == 200
    talk.ask(say("Five."))
    assert _flat(talk.saw()) == ["to One.", "One.", "to Two.", "Three.", "PROMPT", "Four.", "PROMPT"]
    old = httpx.get(f"{kept.url}/v1/sessions/{session}", timeout=50)
    check_envelope(old, 404, "session_not_found", param="session_id")
    with kept.redis_client() as client:
        assert not [name for name in client.scan_iter() if session.encode() in name and b"transcript" in name]


def test_an_answer_is_deleted_with_the_tools_used_for_it(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(f"first {say('One.')}")
    both = call(use_tool("Bash", {"command": "echo a"}), use_tool("Bash", {"command": "echo b"}))
    talk.ask(f"tools {script(call(text('Let me see.'), *both.steps), call(text('Done.')))}")
    talk.ask(f"last {say('Three.')}")
    answer = next(item for item in talk.listed() if item["content"][0]["text"] == "Let me see.")
    assert talk.delete(answer["id"]).status_code == 200
    talk.ask(say("Four."))
    assert _flat(talk.saw()) == ["first", "One.", "tools", "last", "Three.", "PROMPT"]
    assert "tool_result" not in kept.model.calls(talk.marker)[-1].everything


def test_tools_beside_a_deleted_message_stay(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(f"first {say('One.')}")
    both = call(use_tool("Bash", {"command": "echo a"}), use_tool("Bash", {"command": "echo b"}))
    talk.ask(f"tools {script(both, call(text('Done.')))}")
    assert talk.delete(talk.listed()[0]["id"]).status_code == 200
    assert talk.delete(talk.listed()[0]["id"]).status_code == 200
    talk.ask(say("Three."))
    assert _flat(talk.saw()) == ["tools", "Done.", "PROMPT"]
    blocks = [block for _, blocks in kept.model.calls(talk.marker)[-1].turns for block in blocks]
    results = [block["content"] for block in blocks if block["type"] == "tool_result"]
    assert sorted(results) == ["a", "b"]  # the CLI keeps them in the order they came in


def test_what_is_left_without_an_answer_waits_for_the_next_turn(kept: Stack) -> None:
    talk = Talk(kept)
    for said in ("One.", "Two."):
        talk.ask(f"to {said} {say(said)}")
    talk.add(message("user", "Added."))
    items = talk.listed()
    assert talk.delete(items[3]["id"]).status_code == 200
    assert [item["id"] for item in talk.listed()] == [items[n]["id"] for n in (0, 1, 2, 4)]
    talk.ask(say("Three."))
    assert talk.saw()[1:] == [("assistant", ["One."]), ("user", ["to Two.", "Added.", "PROMPT"])]


def test_a_conversation_can_be_emptied_and_begins_anew(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(f"to One. {say('One.')}")
    for item in talk.listed():
        assert talk.delete(item["id"]).status_code == 200
    assert talk.listed() == []
    talk.ask(say("Two."))
    assert talk.saw() == [("user", ["PROMPT"])]
    talk.ask(say("Three."))
    assert talk.saw() == [("user", ["PROMPT"]), ("assistant", ["Two."]), ("user", ["PROMPT"])]


def test_the_first_message_can_be_deleted(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(f"to One. {say('One.')}")
    assert talk.delete(talk.listed()[0]["id"]).status_code == 200
    talk.ask(say("Two."))
    assert talk.saw() == [("user", ["."]), ("assistant", ["One."]), ("user", ["PROMPT"])]


@pytest.mark.parametrize(
    ("items", "code", "param"),
    [
        ([], "invalid_value", "items"),
        ([message("user", "x")] * 21, "array_above_max_length", "items"),
        ([{"type": "reasoning"}], "unsupported_value", "items[0].type"),
        ([message("tool", "x")], "invalid_value", "items[0].role"),
        ([message("user", "x"), message("user", " ")], "invalid_value", "items[1].content"),
        ([message("user", None)], "invalid_type", "items[0].content"),
        (
            [message("user", [{"type": "input_image", "image_url": "x"}])],
            "unsupported_value",
            "items[0].content[0]",
        ),
        ([message("user", "x" * 1_048_577)], "too_many_items", "items"),
    ],
)
def test_what_cannot_be_added_is_refused_by_name(
    kept: Stack, items: list[dict[str, Any]], code: str, param: str
) -> None:
    talk = Talk(kept)
    check_envelope(httpx.post(talk.items, json={"items": items}, timeout=50), 400, code, param=param)
    assert talk.listed() == []
    if items:
        answer = httpx.post(f"{kept.url}/v1/conversations", json={"items": items}, timeout=50)
        check_envelope(answer, 400, code, param=param)


def test_items_wait_within_a_bound(kept: Stack) -> None:
    talk = Talk(kept)
    for _ in range(5):
        talk.add(*[message("user", "x")] * 20)
    answer = httpx.post(talk.items, json={"items": [message("user", "x")]}, timeout=50)
    check_envelope(answer, 400, "too_many_items", param="items")
    assert len(talk.listed()) == 100
    missing = talk.items.replace(talk.id, "conv_" + "0" * 48)
    answer = httpx.post(missing, json={"items": [message("user", "x")]}, timeout=50)
    check_envelope(answer, 404, "conversation_not_found", param="conversation_id")


def test_openais_client_adds_and_deletes_items(kept: Stack) -> None:
    with OpenAI(base_url=f"{kept.url}/v1", api_key="unused", max_retries=0, timeout=50) as sdk:
        made = sdk.conversations.create(items=[{"type": "message", "role": "user", "content": "One."}])
        added = sdk.conversations.items.create(
            made.id, items=[{"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three."}]
        )
        assert [item.role for item in added.data if item.type == "message"] == ["assistant", "user"]
        assert added.first_id == added.data[0].id
        assert sdk.conversations.items.retrieve(added.first_id, conversation_id=made.id) == added.data[0]
        assert sdk.conversations.items.delete(added.first_id, conversation_id=made.id).id == made.id
        assert len(list(sdk.conversations.items.list(made.id))) == 2
        sdk.conversations.delete(made.id)
    with kept.redis_client() as client:
        assert not [name for name in client.scan_iter("backline:added:*") if made.id.encode() in name]


def _flat(said: Said) -> list[str]:
    return [text for _, texts in said for text in texts]


def test_an_answer_that_met_the_token_limit_is_part_of_the_conversation(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    cut = script(
        call(use_tool("Bash", {"command": "echo from-bash"})), call(text("So far"), stop_reason="max_tokens")
    )
    answer = talk.send(cut)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert _flat(talk.texts()) == ["PROMPT", "One.", "PROMPT", "So far"]
    for said in ("Three.", "Four."):
        talk.ask(say(said))
    assert _flat(talk.saw()) == ["PROMPT", "One.", "PROMPT", "So far", "PROMPT", "Three.", "PROMPT"]
    assert "from-bash" in kept.model.calls(talk.marker)[-1].everything


def test_an_answer_cut_off_before_its_first_word_is_not(kept: Stack) -> None:
    talk = Talk(kept)
    talk.ask(say("One."))
    assert talk.send(script(call(think("Hm."), stop_reason="max_tokens"))).status_code == 200
    talk.ask(say("Two."))
    assert _flat(talk.saw()) == ["PROMPT", "One.", "PROMPT"]
