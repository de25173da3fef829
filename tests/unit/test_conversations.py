"""Records of conversations and sessions: one tenant's only, once each, and gone when they are deleted."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from arq.connections import ArqRedis

from api.conversations import Conversations, Thread
from api.decode import decode_body
from api.errors import ApiError
from api.models import Choice
from api.openai.items import MessageItem, ToolItem, items_of
from api.openai.pages import checked_metadata
from api.openai.translate import translate
from api.openai.wire import ChatRequest
from shared import redis_keys as keys
from shared.added_items import AddedItems
from shared.content import TextPart
from shared.conversations import ConversationStore, Record, UnknownPlaceError, transcript_key
from shared.prefix import prefix_after, prefix_of, prefix_under
from shared.registry import CachedRegistry, RegistryStore
from shared.runs import RunRequest
from shared.transcripts import TranscriptStore

PLACE = Record(
    id="conv_1", created_ms=0, updated_ms=0, agent="a", prefix="ab" * 32, session="session-1", head="head-1"
)


@pytest.fixture
def records(redis: ArqRedis) -> ConversationStore:
    return ConversationStore(redis, 60)


@pytest.fixture
def transcripts(redis: ArqRedis) -> TranscriptStore:
    return TranscriptStore(redis, ttl_s=60, max_bytes=1_000_000)


@pytest.fixture
def conversations(redis: ArqRedis, records: ConversationStore, transcripts: TranscriptStore) -> Conversations:
    return Conversations(records, AddedItems(redis, 60), transcripts, CachedRegistry(RegistryStore(redis)))


def request(**fields: Any) -> RunRequest:
    return RunRequest(agent="a", prompt=(TextPart("Hello."),), tenant="t", **fields)


async def save(
    records: ConversationStore, run: RunRequest, session: str, head: str, *, cost_usd: float = 0.5
) -> bool:
    prefix = prefix_after(run, f"Answer {head}.")
    return await records.save(
        run, session=session, head=head, before="", prefix=prefix, cost_usd=cost_usd, worker="w"
    )


async def fields_of(redis: ArqRedis, prefix: str) -> dict[bytes, bytes]:
    async with redis.pipeline() as pipe:
        pipe.hgetall(keys.prefix(prefix))
        (fields,) = await pipe.execute()
    return dict(fields)


def at(record: Record | None) -> dict[str, str]:
    assert record is not None
    return {"prefix": record.prefix, "session": record.session, "head": record.head}


async def test_a_conversation_is_its_tenants_alone(records: ConversationStore) -> None:
    made = await records.create("t", agent="a", model="opus", metadata={"k": "v"})
    assert await records.conversation("t", made.id) == made
    assert await records.conversation("u", made.id) is None
    assert (await records.conversations("u", limit=10)).records == []


@pytest.mark.parametrize("wrong", ["", "conv_", "conv_*", "x" * 9000, "conv_" + "g" * 48, "../conv", "a:b"])
async def test_what_is_no_id_is_not_looked_for(records: ConversationStore, wrong: str) -> None:
    assert await records.conversation("t", wrong) is None
    assert await records.session("t", wrong) is None


async def test_a_turn_is_noted_in_all_three_places(records: ConversationStore, redis: ArqRedis) -> None:
    made = await records.create("t", metadata={"k": "v"})
    assert await save(records, request(conversation=made.id, system="Be kind."), "session-1", "head-1")
    conversation, session = await records.conversation("t", made.id), await records.session("t", "session-1")
    assert conversation is not None
    assert session is not None
    assert (conversation.agent, conversation.system, conversation.metadata) == ("a", "Be kind.", {"k": "v"})
    assert (conversation.turns, conversation.cost_usd) == (session.turns, session.cost_usd) == (1, 0.5)
    assert at(conversation) == at(session)
    assert session.conversation == made.id
    entry = await fields_of(redis, conversation.prefix)
    assert entry == {b"worker": b"w", b"session": b"session-1", b"head": b"head-1"}


async def test_a_turn_noted_twice_counts_once(records: ConversationStore) -> None:
    made = await records.create("t", metadata={})
    run = request(conversation=made.id)
    for _ in range(3):
        assert await save(records, run, "session-1", "head-1")
    conversation, session = await records.conversation("t", made.id), await records.session("t", "session-1")
    assert conversation is not None
    assert session is not None
    assert (conversation.turns, session.turns, session.cost_usd) == (1, 1, 0.5)


async def test_of_two_racing_turns_the_first_to_end_goes_on(records: ConversationStore) -> None:
    made = await records.create("t", metadata={})
    await save(records, request(conversation=made.id), "session-1", "head-1")
    place = at(await records.conversation("t", made.id))
    race = request(conversation=made.id, **place)
    assert await save(records, race, "session-1", "head-2")
    assert await save(records, race, "session-1", "head-3")
    conversation, session = await records.conversation("t", made.id), await records.session("t", "session-1")
    assert conversation is not None
    assert session is not None
    assert (conversation.head, conversation.turns) == ("head-2", 2)
    assert (session.head, session.turns) == ("head-3", 3)


async def test_a_turn_of_a_deleted_conversation_is_not_stored(records: ConversationStore) -> None:
    made = await records.create("t", metadata={})
    await records.delete_conversation("t", made.id)
    assert not await save(records, request(conversation=made.id), "session-1", "head-1")
    assert await records.session("t", "session-1") is None
    assert (await records.conversations("t", limit=10)).records == []


async def test_a_turn_of_a_deleted_session_is_not_stored(records: ConversationStore, redis: ArqRedis) -> None:
    await save(records, request(), "session-1", "head-1")
    session = await records.session("t", "session-1")
    assert session is not None
    await records.delete_session("t", session)
    assert not await save(records, request(**at(session)), "session-1", "head-2")
    assert await records.session("t", "session-1") is None
    assert (await records.sessions("t", limit=10)).records == []
    assert [name async for name in redis.scan_iter("backline:prefix:*")] == []


async def test_a_place_in_the_index_that_is_anothers_by_now_outlives_the_session(
    records: ConversationStore, redis: ArqRedis
) -> None:
    await save(records, request(), "session-1", "head")
    await save(records, request(), "session-2", "head")  # the same words
    session = await records.session("t", "session-1")
    assert session is not None
    await records.delete_session("t", session)
    assert (await fields_of(redis, session.prefix))[b"session"] == b"session-2"


async def test_lists_are_paged_by_last_use(records: ConversationStore) -> None:
    made = []
    for _ in range(5):
        made.append((await records.create("t", metadata={})).id)
        await asyncio.sleep(0.002)
    assert await records.set_metadata("t", made[0], {"used": "now"})
    expected = [made[0], *reversed(made[1:])]
    first = await records.conversations("t", limit=2)
    assert ([r.id for r in first.records], first.has_more) == (expected[:2], True)
    rest = await records.conversations("t", limit=3, after=expected[1])
    assert ([r.id for r in rest.records], rest.has_more) == (expected[2:], False)
    upwards = await records.conversations("t", limit=5, order="asc")
    assert [r.id for r in upwards.records] == expected[::-1]
    with pytest.raises(UnknownPlaceError):
        await records.conversations("t", limit=2, after="conv_")


async def test_what_has_lapsed_leaves_the_list(redis: ArqRedis) -> None:
    brief = ConversationStore(redis, 0.2)
    made = await brief.create("t", metadata={})
    lasting = ConversationStore(redis, 60)
    kept = await lasting.create("t", metadata={})
    await asyncio.sleep(0.3)
    assert await lasting.conversation("t", made.id) is None
    assert not await lasting.set_metadata("t", made.id, {})
    assert [r.id for r in (await lasting.conversations("t", limit=10)).records] == [kept.id]
    assert await lasting.count_conversations("t") == 1


async def test_sessions_are_told_apart_by_agent(records: ConversationStore) -> None:
    await save(records, request(), "session-1", "head-1")
    await save(records, msgspec.structs.replace(request(), agent="b"), "session-2", "head-2", cost_usd=1.25)
    newest = await records.newest_session("t", "a")
    assert newest is not None
    assert newest.id == "session-1"
    assert await records.newest_session("t", "c") is None
    assert await records.newest_session("u", "a") is None
    tally = await records.tally("t")
    assert {agent: (sums.sessions, sums.turns, sums.cost_usd) for agent, sums in tally.items()} == {
        "a": (1, 1, 0.5),
        "b": (1, 1, 1.25),
    }


async def test_a_place_without_its_transcript_is_not_found(
    records: ConversationStore, transcripts: TranscriptStore, conversations: Conversations
) -> None:
    made = await records.create("t", metadata={})
    assert (await conversations.by_conversation("t", made.id)).record == made
    key = transcript_key("t", "a", "session-1")
    await transcripts.append(key, [{"uuid": "head-1", "type": "user"}])
    await save(records, request(conversation=made.id), "session-1", "head-1")
    assert (await conversations.by_conversation("t", made.id)).record.head == "head-1"
    assert (await conversations.by_session("t", "session-1")).conversation == made.id
    assert (await conversations.newest("t", "a")).conversation == made.id
    await transcripts.delete(key)
    for missing, code in (
        (conversations.by_conversation("t", made.id), "conversation_not_found"),
        (conversations.by_session("t", "session-1"), "session_not_found"),
        (conversations.newest("t", "a"), "session_not_found"),
        (conversations.by_session("u", "session-1"), "session_not_found"),
        (conversations.by_conversation("u", made.id), "conversation_not_found"),
    ):
        with pytest.raises(ApiError) as refusal:
            await missing
        assert (refusal.value.status, refusal.value.code) == (404, code)


async def test_what_was_too_large_to_store_is_there_while_it_is_live(
    records: ConversationStore, conversations: Conversations, redis: ArqRedis
) -> None:
    made = await records.create("t", metadata={})
    await save(records, request(conversation=made.id), "session-1", "")
    thread = await conversations.by_conversation("t", made.id)
    async with redis.pipeline() as pipe:
        pipe.hdel(keys.prefix(thread.record.prefix), "worker")
        await pipe.execute()
    with pytest.raises(ApiError) as refusal:
        await conversations.by_conversation("t", made.id)
    assert refusal.value.status == 404


async def test_deleting_a_conversation_leaves_another_that_stands_in_its_session(
    records: ConversationStore, transcripts: TranscriptStore, conversations: Conversations
) -> None:
    first, second = await records.create("t", metadata={}), await records.create("t", metadata={})
    await transcripts.append(transcript_key("t", "a", "session-1"), [{"uuid": "head-1", "type": "user"}])
    await save(records, request(conversation=first.id), "session-1", "head-1")
    await save(records, request(conversation=second.id), "session-1", "head-1")
    await conversations.delete_conversation("t", await conversations.conversation("t", first.id))
    assert (await conversations.by_conversation("t", second.id)).record.head == "head-1"


def translated(
    thread: Thread, *messages: dict[str, Any], model: str | None = None, revision: str = ""
) -> RunRequest:
    body = msgspec.json.encode({"model": "a", "messages": messages})
    decoded, _ = decode_body(body, ChatRequest)
    choice = Choice(agent="a", claude_model=model, revision=revision)
    return translate(decoded, choice, tenant="t", request_id="r", history_limit=9, thread=thread)


def said(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_of_a_request_only_what_is_new_is_taken() -> None:
    thread = Thread(msgspec.structs.replace(PLACE, system="Old.", model="opus"), "conv_1", "conversation_id")
    run = translated(
        thread, said("system", "New."), said("user", "x"), said("assistant", "y"), said("user", "z")
    )
    assert run.history == ()
    assert run.prompt == (TextPart("z"),)
    assert (run.system, run.model, run.conversation) == ("Old.", "opus", "conv_1")
    assert (run.prefix, run.session, run.head) == (PLACE.prefix, "session-1", "head-1")


def test_another_model_goes_on_from_a_place_of_its_own() -> None:
    run = translated(Thread(PLACE, "", ""), said("user", "z"), model="haiku")
    assert run.prefix == prefix_under(PLACE.prefix, "haiku") != PLACE.prefix
    assert (run.session, run.head) == ("session-1", "head-1")


def test_another_revision_goes_on_from_a_place_of_its_own() -> None:
    run = translated(Thread(PLACE, "", ""), said("user", "z"), revision="v1")
    assert run.prefix == prefix_under(PLACE.prefix, None, "v1") not in {PLACE.prefix, ""}
    at_v1 = msgspec.structs.replace(PLACE, revision="v1")
    assert translated(Thread(at_v1, "", ""), said("user", "z"), revision="v1").prefix == PLACE.prefix
    assert translated(Thread(at_v1, "", ""), said("user", "z")).prefix == prefix_under(PLACE.prefix, None)
    assert prefix_of(run) != prefix_of(msgspec.structs.replace(run, revision=""))


def test_a_conversation_that_has_not_begun_begins_with_all_messages() -> None:
    empty = Record(id="conv_1", created_ms=0, updated_ms=0, model="opus")
    thread = Thread(empty, "conv_1", "conversation_id")
    run = translated(
        thread, said("system", "New."), said("user", "x"), said("assistant", "y"), said("user", "z")
    )
    assert len(run.history) == 2
    assert (run.system, run.model, run.conversation, run.session) == ("New.", "opus", "conv_1", "")
    assert prefix_of(run) == prefix_of(msgspec.structs.replace(run, conversation=""))


def test_a_conversation_cannot_change_hands() -> None:
    with pytest.raises(ApiError) as refusal:
        Thread(PLACE, "conv_1", "conversation_id").require_agent("b")
    assert (refusal.value.status, refusal.value.param) == (400, "conversation_id")
    Thread(PLACE, "conv_1", "conversation_id").require_agent("a")


def test_too_many_messages_are_refused() -> None:
    with pytest.raises(ApiError) as refusal:
        translated(Thread(PLACE, "", ""), *[said("user", "x")] * 10)
    assert (refusal.value.status, refusal.value.param) == (400, "messages")


def test_unknown_claude_options_are_named() -> None:
    body = {"model": "a", "messages": [], "x": 1, "claude_options": {"continue": True, "odd": True}}
    decoded, unknown = decode_body(msgspec.json.encode(body), ChatRequest, nested=["claude_options"])
    assert decoded.claude_options is not None
    assert decoded.claude_options.continue_
    assert unknown == ["claude_options.odd", "x"]


@pytest.mark.parametrize(
    "metadata",
    [{str(i): "" for i in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}],
)
def test_metadata_has_bounds(metadata: dict[str, str]) -> None:
    with pytest.raises(ApiError) as refusal:
        checked_metadata(metadata)
    assert refusal.value.param == "metadata"


def entry(uuid: str, parent: str | None, kind: str, *blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    message = {"role": kind, "content": list(blocks)}
    return {"uuid": uuid, "parentUuid": parent, "type": kind, "message": message, **more}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


TRANSCRIPT = [
    entry("u1", None, "user", words("one")),
    {"uuid": "x1", "parentUuid": "u1", "type": "attachment"},
    entry("a1", "x1", "assistant", {"type": "thinking", "thinking": "hm"}),
    entry("a2", "a1", "assistant", words("Looking.")),
    entry("a3", "a2", "assistant", {"type": "tool_use", "id": "call", "name": "Read", "input": {"f": 1}}),
    entry("r1", "a3", "user", {"type": "tool_result", "tool_use_id": "call", "content": [words("seen")]}),
    entry("a4", "r1", "assistant", words("Done.")),
    entry("other", "a4", "user", words("another branch")),
    entry("m1", "a4", "user", words("not said by anyone"), isMeta=True),
    {**entry("u2", "m1", "user"), "message": {"role": "user", "content": "two"}},
    entry("a5", "u2", "assistant", words("Bye.")),
]


def shown(items: list[Any]) -> list[tuple[str, ...]]:
    return [
        (item.role, *(getattr(part, "text", "") for part in item.content))
        if isinstance(item, MessageItem)
        else (item.name, item.arguments, str(item.output))
        for item in items
    ]


def test_items_are_what_was_said_on_the_way_to_the_last_entry() -> None:
    assert shown(list(items_of(TRANSCRIPT))) == [
        ("user", "one"),
        ("assistant", "Looking.", "Done."),
        ("user", "two"),
        ("assistant", "Bye."),
    ]
    assert shown(list(items_of(TRANSCRIPT[:8])))[-1] == ("user", "another branch")
    assert items_of([]) == []


def test_items_with_tools_have_calls_and_results_between() -> None:
    items = items_of(TRANSCRIPT, include_tools=True)
    assert shown(list(items))[:4] == [
        ("user", "one"),
        ("assistant", "Looking."),
        ("Read", '{"f":1}', "seen"),
        ("assistant", "Done."),
    ]
    assert isinstance(items[2], ToolItem)
    assert len({item.id for item in items}) == len(items)


def test_a_ring_of_entries_ends() -> None:
    ring = [entry("a", "b", "user", words("x")), entry("b", "a", "user", words("y"))]
    assert len(items_of(ring)) == 2
