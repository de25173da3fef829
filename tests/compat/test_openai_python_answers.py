"""The `openai` package for Python: answers, whole and streamed, and everything that is not a tool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.compat.proxy import Proxy
from tests.compat.scripts import ADA, MODEL, PNG, PNG_URL, WORDS, Person, endless, person, words
from tests.support.asking import text_of, texts, user
from tests.support.model import Model

pytestmark = pytest.mark.client("openai (Python)")


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=url, api_key="unused", max_retries=0) as client:
        yield client


@pytest.mark.feature("answer")
def test_an_answer_is_whole(client: OpenAI, marker: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[user(marker, words())])
    assert text_of(answer) == WORDS
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.feature("answer")
async def test_an_answer_is_whole_when_awaited(async_client: AsyncOpenAI, marker: str) -> None:
    answer = await async_client.chat.completions.create(model=MODEL, messages=[user(marker, words())])
    assert text_of(answer) == WORDS


@pytest.mark.feature("stream")
def test_a_stream_comes_in_pieces(client: OpenAI, marker: str) -> None:
    with client.chat.completions.create(model=MODEL, messages=[user(marker, words())], stream=True) as stream:
        chunks = list(stream)
    assert len(texts(chunks)) > 1
    assert "".join(texts(chunks)) == WORDS
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "stop"


@pytest.mark.feature("stream")
async def test_the_stream_helper_accumulates(async_client: AsyncOpenAI, marker: str) -> None:
    async with async_client.chat.completions.stream(model=MODEL, messages=[user(marker, words())]) as stream:
        deltas = [event.delta async for event in stream if event.type == "content.delta"]
        final = await stream.get_final_completion()
    assert len(deltas) > 1
    assert final.choices[0].message.content == "".join(deltas) == WORDS


@pytest.mark.feature("usage in a stream")
def test_the_last_chunk_has_the_usage(client: OpenAI, marker: str) -> None:
    with client.chat.completions.create(
        model=MODEL,
        messages=[user(marker, words())],
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        *before, last = list(stream)
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in before)


@pytest.mark.feature("images")
def test_an_image_reaches_the_model(client: OpenAI, model: Model, marker: str) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": f"{marker} {words()}"},
                    {"type": "image_url", "image_url": {"url": PNG_URL}},
                ],
            }
        ],
    )
    assert PNG in model.call(marker).everything


@pytest.mark.feature("structured output")
def test_an_answer_is_parsed_into_a_model(client: OpenAI, model: Model, marker: str) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=[user(marker, person())], response_format=Person
    )
    assert answer.choices[0].message.parsed == ADA
    assert model.call(marker).body["output_config"]["format"]["type"] == "json_schema"


@pytest.mark.feature("structured output")
async def test_a_stream_is_parsed_into_a_model(async_client: AsyncOpenAI, marker: str) -> None:
    async with async_client.chat.completions.stream(
        model=MODEL, messages=[user(marker, person())], response_format=Person
    ) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.parsed == ADA


@pytest.mark.feature("n > 1")
def test_two_choices_are_two(client: OpenAI, marker: str) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[user(marker, words())], n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, WORDS), (1, WORDS)]


@pytest.mark.feature("n > 1")
async def test_two_choices_stream_side_by_side(async_client: AsyncOpenAI, marker: str) -> None:
    async with async_client.chat.completions.stream(
        model=MODEL, messages=[user(marker, words())], n=2
    ) as stream:
        final = await stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [WORDS, WORDS]
    assert [choice.finish_reason for choice in final.choices] == ["stop", "stop"]


@pytest.mark.feature("completions")
@pytest.mark.parametrize("is_stream", [False, True])
def test_legacy_completions_answer(client: OpenAI, marker: str, is_stream: bool) -> None:
    prompt = f"{marker} {words()}"
    if is_stream:
        with client.completions.create(model=MODEL, prompt=prompt, stream=True) as stream:
            pieces = [choice.text for chunk in stream for choice in chunk.choices]
        assert len(pieces) > 1
        assert "".join(pieces) == WORDS
    else:
        answer = client.completions.create(model=MODEL, prompt=prompt)
        assert answer.choices[0].text == WORDS
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None


@pytest.mark.feature("stored completions")
def test_a_stored_completion_is_found_changed_and_deleted(client: OpenAI, marker: str) -> None:
    stored = client.chat.completions.create(
        model=MODEL, messages=[user(marker, words())], store=True, metadata={"test": marker}
    )
    chats = client.chat.completions
    assert text_of(chats.retrieve(stored.id)) == WORDS
    assert [found.id for found in chats.list(metadata={"test": marker})] == [stored.id]
    assert marker in str(list(chats.messages.list(stored.id)))
    assert chats.update(stored.id, metadata={"test": "changed"}).metadata == {"test": "changed"}
    assert chats.delete(stored.id).deleted
    assert [found.id for found in chats.list(metadata={"test": "changed"})] == []


@pytest.mark.feature("models")
async def test_models_are_listed_and_shown(client: OpenAI, async_client: AsyncOpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert (await async_client.models.retrieve(MODEL)).id == MODEL


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
def test_closing_the_stream_ends_the_run(client: OpenAI, marker: str) -> None:
    with client.chat.completions.create(
        model=MODEL, messages=[user(marker, endless())], stream=True
    ) as stream:
        assert next(text for chunk in stream if (text := chunk.choices[0].delta.content)) == "t0"


@pytest.mark.feature("cancellation")
@pytest.mark.usefixtures("idle")
async def test_closing_the_async_stream_ends_the_run(
    async_client: AsyncOpenAI, proxy: Proxy, marker: str
) -> None:
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=[user(marker, endless())], stream=True
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await stream.close()
    assert len(proxy.exchanges) == 1
