"""Added items: all or none, in order, taken once by the turn that moves the conversation on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from arq.connections import ArqRedis

from api.errors import ApiError
from api.openai.added import with_added
from api.openai.items import items_of
from api.openai.removal import Removal, without_item
from shared import redis_keys as keys
from shared.added_items import MOST_ITEMS, AddedItem, AddedItems, ItemRole, Rewrite, TooManyItemsError
from shared.content import TextPart, ToolResultPart, Turn
from shared.conversations import ConversationStore
from shared.prefix import prefix_after
from shared.runs import RunRequest

PROMPT = RunRequest(agent="a", prompt=(TextPart("Prompt."),), tenant="t")


@pytest.fixture
def records(redis: ArqRedis) -> ConversationStore:
    return ConversationStore(redis, 60)


@pytest.fixture
def added(redis: ArqRedis) -> AddedItems:
    return AddedItems(redis, 60)


def item(item_id: str, role: ItemRole = "user") -> AddedItem:
    return AddedItem(f"msg_{item_id}", role, (f"Text {item_id} ☃.",))


def user(*texts: str) -> Turn:
    return Turn(role="user", parts=tuple(map(TextPart, texts)))


def assistant(*texts: str) -> Turn:
    return Turn(role="assistant", parts=tuple(map(TextPart, texts)))


async def save(records: ConversationStore, run: RunRequest, session: str, head: str) -> bool:
    prefix = prefix_after(run, head)
    return await records.save(
        run, session=session, head=head, before="", prefix=prefix, cost_usd=0, worker="w"
    )


async def test_items_wait_in_their_order_and_can_be_taken_back(
    records: ConversationStore, added: AddedItems
) -> None:
    made = await records.create("t", metadata={})
    assert await added.add("t", made.id, [item("1"), item("2", "assistant")])
    assert await added.add("t", made.id, [item("3")])
    assert await added.waiting("t", made.id) == [item("1"), item("2", "assistant"), item("3")]
    assert await added.waiting("u", made.id) == []
    assert await added.remove("t", made.id, "msg_2")
    assert not await added.remove("t", made.id, "msg_2")
    assert not await added.remove("t", made.id, "msg_")
    assert await added.waiting("t", made.id) == [item("1"), item("3")]
    await records.delete_conversation("t", made.id)
    assert await added.waiting("t", made.id) == []
    assert not await added.add("t", made.id, [item("4")])


async def test_too_many_are_added_not_at_all(records: ConversationStore, added: AddedItems) -> None:
    made = await records.create("t", metadata={})
    await added.add("t", made.id, [item(str(n)) for n in range(MOST_ITEMS - 1)])
    with pytest.raises(TooManyItemsError):
        await added.add("t", made.id, [item("a"), item("b")])
    assert len(await added.waiting("t", made.id)) == MOST_ITEMS - 1
    await added.add("t", made.id, [item("a")])


async def test_the_turn_that_moves_the_conversation_takes_what_it_told(
    records: ConversationStore, added: AddedItems
) -> None:
    made = await records.create("t", metadata={})
    await added.add("t", made.id, [item("1"), item("11")])
    run = msgspec.structs.replace(PROMPT, conversation=made.id, items=("msg_1",))
    assert await save(records, run, "s1-session", "h1")
    assert await added.waiting("t", made.id) == [item("11")]
    loser = msgspec.structs.replace(PROMPT, conversation=made.id, items=("msg_11",))
    assert await save(records, loser, "s2-session", "h2")
    assert await added.waiting("t", made.id) == [item("11")]


async def test_a_rewritten_conversation_stands_in_the_new_session(
    records: ConversationStore, added: AddedItems, redis: ArqRedis
) -> None:
    made = await records.create("t", metadata={"k": "v"})
    await save(records, msgspec.structs.replace(PROMPT, conversation=made.id), "s1-session", "h1")
    await added.add("t", made.id, [item("9")])
    record = await records.conversation("t", made.id)
    assert record is not None
    now = Rewrite(session="s2-session", head="h2", waiting=[item("1"), item("2")])
    assert await added.rewrite("t", record, now)
    assert await added.rewrite("t", record, now), "its answer was lost, and it is said again"
    other = msgspec.structs.replace(now, session="s3-session")
    assert not await added.rewrite("t", record, other), "it has moved on"
    assert await added.waiting("t", made.id) == [item("1"), item("2"), item("9")]
    moved = await records.conversation("t", made.id)
    session = await records.session("t", "s2-session")
    assert moved is not None
    assert session is not None
    assert (moved.session, moved.head, moved.turns, moved.metadata) == ("s2-session", "h2", 1, {"k": "v"})
    assert (session.conversation, session.head, session.prefix) == (made.id, "h2", moved.prefix)
    assert moved.prefix != record.prefix
    assert (await records.newest_session("t", "a")) == session
    assert await added.rewrite("t", moved, Rewrite(session="", head=""))
    emptied = await records.conversation("t", made.id)
    assert emptied is not None
    assert not emptied.has_begun
    assert not await redis.exists(keys.session("t", ""))


def test_items_become_true_turns_before_the_prompt() -> None:
    items = [item("1"), item("2", "assistant"), item("3"), item("4", "developer")]
    begun = with_added(msgspec.structs.replace(PROMPT, session="s", head="h"), items)
    assert begun.history == (user("Text 1 ☃."), assistant("Text 2 ☃."))
    assert begun.prompt == user("Text 3 ☃.", "Text 4 ☃.", "Prompt.").parts
    assert begun.items == ("msg_1", "msg_2", "msg_3", "msg_4")
    fresh = with_added(msgspec.structs.replace(PROMPT, system="Request's."), items)
    assert fresh.prompt == user("Text 3 ☃.", "Prompt.").parts
    assert fresh.system == "Text 4 ☃.\n\nRequest's."


def test_an_assistants_item_is_never_the_first_turn() -> None:
    run = with_added(msgspec.structs.replace(PROMPT, session="s", head="h"), [item("1", "assistant")])
    assert run.history == (user("."), assistant("Text 1 ☃."))


def test_results_of_tool_calls_let_items_wait() -> None:
    run = RunRequest(agent="a", prompt=(ToolResultPart("call", "42"),), session="s", head="h")
    assert with_added(run, [item("1")]) is run


def test_turns_told_to_a_session_are_part_of_what_was_said() -> None:
    run = RunRequest(agent="a", prompt=(TextPart("Prompt."),), prefix="ab" * 32, session="s", head="h")
    told = msgspec.structs.replace(run, history=(user("Added."), assistant("Noted.")))
    assert prefix_after(told, "Answer.") != prefix_after(run, "Answer.")
    later = msgspec.structs.replace(
        run, prefix=prefix_after(msgspec.structs.replace(run, prompt=(TextPart("Added."),)), "Noted.")
    )
    assert prefix_after(told, "Answer.") == prefix_after(later, "Answer.")


def entry(kind: str, uuid: str, parent: str | None, *blocks: Any, **fields: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks]
    said = {"message": {"role": kind, "content": content}} if blocks else {}
    return {"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "old", **said, **fields}


TALK = [
    entry("user", "u1", None, "One?"),
    entry("attachment", "x1", "u1"),
    entry("assistant", "a1", "x1", "One."),
    entry("user", "u2", "a1", "Two?"),
    entry("assistant", "a2", "u2", "Let me see."),
    entry("assistant", "a3", "a2", {"type": "tool_use", "id": "t", "name": "Bash", "input": {}}),
    entry("user", "r1", "a3", {"type": "tool_result", "tool_use_id": "t", "content": "42"}),
    entry("assistant", "a4", "r1", "Two."),
    entry("user", "f1", "a1", "A fork?"),
    entry("assistant", "f2", "f1", "A fork."),
    entry("user", "u3", "a4", "Three?"),
    entry("assistant", "a5", "u3", "Three."),
]


def removed(item_id: str, entries: list[dict[str, Any]] | None = None) -> Removal:
    removal = without_item(TALK if entries is None else entries, item_id)
    assert removal is not None
    return removal


def links(removal: Removal) -> list[tuple[str, str | None]]:
    return [(entry["uuid"], entry["parentUuid"]) for entry in removal.entries]


def test_the_children_of_a_deleted_message_have_its_parent() -> None:
    removal = removed("msg_u2")
    assert links(removal)[2:5] == [("a1", "x1"), ("a2", "a1"), ("a3", "a2")]
    assert removal.rewrite.head == "a5"
    assert {entry["sessionId"] for entry in removal.entries} == {removal.rewrite.session}
    assert [shown.id for shown in items_of(removal.entries)] == ["msg_u1", "msg_a1", "msg_u3", "msg_a5"]


def test_an_answer_goes_with_its_tools_and_another_branch_does_not_come_along() -> None:
    kept = [("u1", None), ("x1", "u1"), ("a1", "x1"), ("u2", "a1"), ("u3", "u2"), ("a5", "u3")]
    assert links(removed("msg_a2")) == kept


def test_the_last_answer_leaves_its_question_waiting() -> None:
    removal = removed("msg_a5")
    assert removal.rewrite.head == "a4"
    assert removal.rewrite.waiting == [AddedItem("msg_u3", "user", ("Three?",))]


def test_the_first_answer_has_a_users_turn_before_it_that_nobody_sees() -> None:
    removal = removed("msg_u1")
    assert [entry["type"] for entry in removal.entries[:3]] == ["attachment", "user", "assistant"]
    assert removal.entries[2]["parentUuid"] == removal.entries[1]["uuid"]
    assert [shown.id for shown in items_of(removal.entries)][:2] == ["msg_a1", "msg_u2"]
    again = removed("msg_a1", removal.entries)
    assert [entry["type"] for entry in again.entries[:2]] == ["attachment", "user"]
    assert again.entries[1]["uuid"] == "u2"


def test_what_has_no_answer_left_is_no_session() -> None:
    removal = removed("msg_a1", TALK[:3])
    assert (removal.entries, removal.rewrite.session, removal.rewrite.head) == ([], "", "")
    assert [waiting.texts for waiting in removal.rewrite.waiting] == [("One?",)]


def test_an_image_is_not_left_without_its_answer() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aa"}}
    talk = [entry("user", "u1", None, "Look.", image), entry("assistant", "a1", "u1", "I see.")]
    with pytest.raises(ApiError, match="image"):
        without_item(talk, "msg_a1")


@pytest.mark.parametrize("unknown", ["", "msg_", "msg_x1", "msg_f1", "msg_r1", "t"])
def test_what_is_no_message_of_the_conversation_is_not_found(unknown: str) -> None:
    assert without_item(TALK, unknown) is None
