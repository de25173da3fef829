"""Batches as tests make them and wait for them, with OpenAI's client."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import openai
from openai import AsyncOpenAI
from openai.types import Batch

CHAT: Final = "/v1/chat/completions"
OVER = {"completed", "failed", "expired", "cancelled"}
Line = dict[str, Any]


def line(custom_id: str, *words: object, url: str = CHAT, **fields: Any) -> Line:
    messages = [{"role": "user", "content": " ".join(map(str, words))}]
    body = {"model": "agent", "messages": messages, **fields}
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def jsonl(lines: Sequence[Line]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


async def begin(sdk: AsyncOpenAI, lines: Sequence[Line], **fields: Any) -> Batch:
    file = await sdk.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    return await sdk.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h", **fields)


async def until(
    sdk: AsyncOpenAI, batch: Batch, fact: Callable[[Batch], bool], within_s: float = 50.0
) -> Batch:
    """Wait until a fact about the batch is true."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            batch = await sdk.batches.retrieve(batch.id)
            if fact(batch):
                return batch
        except openai.APIConnectionError:
            pass
        assert time.monotonic() < deadline, batch
        await asyncio.sleep(0.1)


async def end_of(sdk: AsyncOpenAI, batch: Batch, within_s: float = 120.0) -> Batch:
    return await until(sdk, batch, lambda batch: batch.status in OVER, within_s)


async def results(sdk: AsyncOpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    content = await sdk.files.content(file_id)
    return [json.loads(each) for each in content.content.splitlines()]


async def both(sdk: AsyncOpenAI, batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Outputs and errors by `custom_id`; every one of them stands there once."""
    outputs, errors = await results(sdk, batch.output_file_id), await results(sdk, batch.error_file_id)
    counted = Counter(each["custom_id"] for each in [*outputs, *errors])
    assert set(counted.values()) <= {1}, counted
    return tuple({each["custom_id"]: each for each in many} for many in (outputs, errors))  # type: ignore[return-value]


def said(result: Mapping[str, Any]) -> str:
    return str(result["response"]["body"]["choices"][0]["message"]["content"])


def counts(batch: Batch) -> tuple[int, int, int]:
    """How many lines there are, how many are done, how many have failed."""
    assert batch.request_counts is not None
    found = batch.request_counts
    return found.total, found.completed, found.failed
