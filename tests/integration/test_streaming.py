"""A stream is OpenAI's, token by token, and never silent."""

from __future__ import annotations

import json
import time

from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk

from scripted_model import script, stall, text, tokens
from tests.support.asking import PATH, body, open_stream, stream, texts, user
from tests.support.stack import Stack

KEEP_ALIVE = b": keep-alive\n"


async def test_each_delta_is_a_chunk_that_arrives_before_the_next_is_sent(
    sdk: AsyncOpenAI, marker: str
) -> None:
    arrivals: list[int] = []
    pieces: list[str] = []
    async for chunk in stream(sdk, marker, script(tokens(8, pace_ms=200, stamp=True))):
        if chunk.choices[0].delta.content:
            arrivals.append(time.monotonic_ns())
            pieces.append(chunk.choices[0].delta.content)
    assert [piece.partition(":")[0] for piece in pieces] == [str(i) for i in range(8)]
    sent = [int(piece.partition(":")[2]) for piece in pieces]
    assert all(arrival < next_sent for arrival, next_sent in zip(arrivals[:-1], sent[1:], strict=True))


async def test_a_stream_has_a_role_first_one_finish_reason_last_and_one_identity(
    sdk: AsyncOpenAI, marker: str
) -> None:
    chunks = [chunk async for chunk in stream(sdk, marker, script(text("one two three")))]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    assert texts(chunks) == ["one ", "two ", "three"]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert chunks[0].model == "agent"
    assert abs(chunks[0].created - time.time()) < 60
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_stream_ends_with_usage_when_asked_for(sdk: AsyncOpenAI, marker: str) -> None:
    options = {"include_usage": True}
    chunks = [chunk async for chunk in stream(sdk, marker, script(text("one two")), stream_options=options)]
    *before, last = chunks
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens == 2
    assert last.usage.total_tokens == last.usage.prompt_tokens + 2
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in before)


async def test_a_streams_bytes_are_events_and_done(stack: Stack, marker: str) -> None:
    async with stack.http() as http:
        answer = await http.post(PATH, json=body(marker, script(text("one two")), stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "no-cache" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"]
    *events, done, rest = answer.text.split("\n\n")
    assert (done.partition("\nid: ")[0], rest) == ("data: [DONE]", "")
    bodies = [json.loads(event.removeprefix("data: ").partition("\nid: ")[0]) for event in events]
    assert len(bodies) == 4  # role, two words, the end
    assert all("usage" not in chunk for chunk in bodies)
    assert all(choice["logprobs"] is None for chunk in bodies for choice in chunk["choices"])
    assert bodies[-1]["backline"]["run_id"] == answer.headers["x-backline-run-id"]


def test_the_sync_sdk_streams_too(sync_sdk: OpenAI, marker: str) -> None:
    chunks: list[ChatCompletionChunk] = list(
        sync_sdk.chat.completions.create(
            model="agent", messages=[user(marker, script(text("one two three")))], stream=True
        )
    )
    assert texts(chunks) == ["one ", "two ", "three"]


async def test_the_sdks_accumulating_stream_understands(sdk: AsyncOpenAI, marker: str) -> None:
    async with sdk.chat.completions.stream(
        model="agent", messages=[user(marker, script(text("one two three")))]
    ) as events:
        final = await events.get_final_completion()
    assert final.choices[0].message.content == "one two three"
    assert final.choices[0].finish_reason == "stop"


async def test_silence_is_filled_with_comments_of_one_line(hasty: Stack, marker: str) -> None:
    asked = script(text("one "), stall(1.5), text("two"))
    async with (
        hasty.http() as http,
        http.stream("POST", PATH, json=body(marker, asked, stream=True)) as answer,
    ):
        raw = b"".join([piece async for piece in answer.aiter_raw()])
    before, _, after = raw.partition(b'"content":"one "')
    _, _, after = after.partition(b"\n\n")
    silence, _, _ = after.partition(b"data:")
    assert silence.count(KEEP_ALIVE) >= 2
    assert silence.replace(KEEP_ALIVE, b"") == b""
    assert KEEP_ALIVE + b"\n" not in raw
    assert before


async def test_comments_come_before_the_first_word_too(hasty: Stack, marker: str) -> None:
    async with hasty.http() as http, open_stream(http, marker, script(stall(2), text("late"))) as (_, lines):
        heard = [line async for line in lines]
    first_data = next(i for i, line in enumerate(heard) if line.startswith("data:"))
    assert set(heard[:first_data]) == {": keep-alive"}
    assert heard[-3] == "data: [DONE]"


async def test_the_sdk_reads_over_comments(hasty: Stack, marker: str) -> None:
    async with hasty.sdk() as sdk:
        chunks = [c async for c in stream(sdk, marker, script(stall(1), text("one "), stall(1), text("two")))]
    assert texts(chunks) == ["one ", "two"]
