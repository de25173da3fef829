"""A completion that a client asked to store can be read, found, changed and deleted."""

from __future__ import annotations

from uuid import uuid4

import httpx
import openai
import pytest

from scripted_model import say
from tests.support.asking import ask, check_envelope, stream, text_of
from tests.support.stack import Stack


async def test_a_stored_completion_is_given_back_as_it_was(stack: Stack) -> None:
    async with stack.sdk() as client:
        answer = await ask(client, "Keep it.", say("Kept."), store=True, metadata={"topic": "keeping"})
        stored = await client.chat.completions.retrieve(answer.id)
        assert stored.model_dump() == answer.model_dump()
        messages = await client.chat.completions.messages.list(answer.id)
    assert [(message.role, "Keep it." in (message.content or "")) for message in messages.data] == [
        ("user", True)
    ]


async def test_a_streamed_completion_is_stored_before_its_end_is_told(stack: Stack) -> None:
    async with stack.sdk() as client:
        ids = [chunk.id async for chunk in stream(client, say("Streamed and kept."), store=True)]
        stored = await client.chat.completions.retrieve(ids[0])
    assert text_of(stored) == "Streamed and kept."


async def test_stored_completions_are_found_by_their_metadata(stack: Stack) -> None:
    topic = uuid4().hex
    async with stack.sdk() as client:
        ids = [(await ask(client, say(f"{n}"), store=True, metadata={"topic": topic})).id for n in range(3)]
        await ask(client, say("another"), store=True)
        page = await client.chat.completions.list(metadata={"topic": topic}, limit=2)
        found = [completion.id async for completion in page]
        assert found == ids
        newest = await client.chat.completions.list(metadata={"topic": topic}, order="desc", limit=1)
        assert [completion.id for completion in newest.data] == ids[-1:]
        await client.chat.completions.update(ids[0], metadata={"topic": "else"})
        assert (await client.chat.completions.retrieve(ids[0])).model_dump()["metadata"] == {"topic": "else"}
        page = await client.chat.completions.list(metadata={"topic": topic})
        assert [completion.id for completion in page.data] == ids[1:]


async def test_what_is_deleted_is_gone(stack: Stack) -> None:
    async with stack.sdk() as client:
        answer = await ask(client, say("Brief."), store=True)
        assert (await client.chat.completions.delete(answer.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.retrieve(answer.id)


async def test_what_was_not_to_be_stored_is_not(stack: Stack) -> None:
    async with stack.sdk() as client:
        answer = await ask(client, say("Forget me."))
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.retrieve(answer.id)


@pytest.mark.parametrize("name", ["metadata", "metadata.a", "metadata[a", "metadata[]", "Metadata[a]"])
async def test_a_misspelt_choice_by_metadata_is_refused(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get("/v1/chat/completions", params={name: "b"})
    check_envelope(answer, 400, "invalid_value", param=name)
