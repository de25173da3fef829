"""A batch answers each of its lines exactly once, whoever dies meanwhile, and keeps nobody waiting."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from scripted_model import fail, say, script, stall, text
from tests.conftest import NewStack
from tests.support.asking import ask, check_envelope, text_of
from tests.support.batches import CHAT, begin, both, counts, end_of, jsonl, line, said, until
from tests.support.waiting import eventually


async def test_each_line_has_its_answer_or_its_error(sdk: AsyncOpenAI, marker: str) -> None:
    good = [line(f"good-{n}", marker, say(f"Answer {n}.")) for n in range(24)]
    bad = [
        line("no-model", marker, model="nobody"),
        line("no-temperature", marker, temperature=9),
        line("upstream", marker, script(fail(400, message="No."))),
    ]
    batch = await begin(sdk, [*good[:12], *bad, *good[12:]], metadata={"for": "tests"})
    assert batch.id.startswith("batch_")
    assert batch.status in {"validating", "in_progress"}
    assert batch.metadata == {"for": "tests"}
    batch = await end_of(sdk, batch)
    assert batch.status == "completed", batch
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (
        27,
        24,
        3,
    )
    assert batch.usage is not None
    assert batch.usage.output_tokens > 0
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at  # type: ignore[operator]
    outputs, errors = await both(sdk, batch)
    assert {name: said(result) for name, result in outputs.items()} == {
        f"good-{n}": f"Answer {n}." for n in range(24)
    }
    assert outputs["good-1"]["response"]["status_code"] == 200
    assert outputs["good-1"]["error"] is None
    assert {name: result["response"]["status_code"] for name, result in errors.items()} == {
        "no-model": 404,
        "no-temperature": 400,
        "upstream": 400,
    }
    assert errors["no-model"]["response"]["body"]["error"]["code"] == "model_not_found"
    file = await sdk.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    listed = await sdk.batches.list(limit=1)
    assert listed.data[0].id == batch.id
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'completed'"):
        await sdk.batches.cancel(batch.id)


async def test_a_batch_that_is_asked_for_again_is_the_same(sdk: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    file = await sdk.files.create(file=("in.jsonl", jsonl([line("one", say("Ok."))])), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"}

    async def post(headers: dict[str, str], **more: Any) -> httpx.Response:
        return await http.post("/v1/batches", json={**asked, **more}, headers=headers)

    key = {"idempotency-key": file.id}
    first, second = await post(key), await post(key)
    assert first.json()["id"] == second.json()["id"]
    assert [each.headers.get("idempotent-replayed") for each in (first, second)] == [None, "true"]
    other = await post(key, metadata={"a": "b"})
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    tried = await post({"x-stainless-retry-count": "0"}, metadata={"n": file.id})
    again = await post({"x-stainless-retry-count": "1"}, metadata={"n": file.id})
    anew = await post({"x-stainless-retry-count": "0"}, metadata={"n": file.id})
    assert tried.json()["id"] == again.json()["id"] != anew.json()["id"]


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [("/v1/responses", {"input": f"{say('Ok.')}"}), ("/v1/completions", {"prompt": f"{say('Ok.')}"})],
)
async def test_other_endpoints_have_their_own_answers(sdk: AsyncOpenAI, endpoint: Any, words: Any) -> None:
    good = {"custom_id": "good", "method": "POST", "url": endpoint, "body": {"model": "agent", **words}}
    bad = {**good, "custom_id": "bad", "body": {"model": "nobody", **words}}
    file = await sdk.files.create(file=("in.jsonl", jsonl([good, bad])), purpose="batch")
    batch = await sdk.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    outputs, errors = await both(sdk, await end_of(sdk, batch))
    assert "Ok." in json.dumps(outputs["good"]["response"]["body"])
    assert outputs["good"]["response"]["status_code"] == 200
    assert errors["bad"]["response"]["status_code"] == 404


async def test_an_input_that_is_wrong_fails_as_a_whole_by_line(sdk: AsyncOpenAI, marker: str) -> None:
    batch = await begin(
        sdk,
        [line("a", marker), line("a", marker), line("b", marker, stream=True), line("c", url="/v1/other")],
    )
    batch = await end_of(sdk, batch)
    assert batch.status == "failed"
    assert batch.errors is not None
    assert [(each.code, each.line, each.param) for each in batch.errors.data or []] == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("streaming_unsupported", 3, "body.stream"),
        ("invalid_url", 4, "url"),
    ]
    assert batch.output_file_id is None


async def test_a_file_that_is_not_there_fails_the_batch(sdk: AsyncOpenAI) -> None:
    batch = await sdk.batches.create(input_file_id="file-1", endpoint=CHAT, completion_window="24h")
    batch = await end_of(sdk, batch)
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data or []] == ["invalid_request"]


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"endpoint": "/v1/embeddings"}, "endpoint", "invalid_value"),
        ({"completion_window": "1h"}, "completion_window", "invalid_value"),
        ({"input_file_id": None}, "input_file_id", "invalid_type"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 5}},
            "output_expires_after.seconds",
            "invalid_value",
        ),
        ({"metadata": {"a": "x" * 600}}, "metadata", "invalid_value"),
    ],
)
async def test_a_batch_that_cannot_be_is_refused_by_name(
    http: httpx.AsyncClient, fields: dict[str, Any], param: str, code: str
) -> None:
    body = {"input_file_id": "file-1", "endpoint": CHAT, "completion_window": "24h", **fields}
    check_envelope(await http.post("/v1/batches", json=body), 400, code, param=param)


async def test_a_batch_that_nobody_made_is_not_found(http: httpx.AsyncClient) -> None:
    for answer in (
        await http.get("/v1/batches/batch_1"),
        await http.post("/v1/batches/batch_1/cancel"),
    ):
        check_envelope(answer, 404, "batch_not_found", param="id")


async def test_a_cancelled_batch_keeps_what_was_done_and_names_what_was_not(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack(slots=2)
    # As many as are begun at first: begun together with these, a slow one might be the first.
    quick = [line(f"quick-{n}", marker, say(f"Quick {n}.")) for n in range(4)]
    slow = [line(f"slow-{n}", marker, script(stall(60), text("Late."))) for n in range(5)]
    async with stack.sdk() as sdk:
        batch = await begin(sdk, [*quick, *slow])
        await until(sdk, batch, lambda batch: counts(batch)[1] == 4)
        await eventually(stack.cli_processes, 20, "a slow line is under way")
        assert (await sdk.batches.cancel(batch.id)).status == "cancelling"
        await sdk.batches.cancel(batch.id)
        batch = await end_of(sdk, batch)
        assert batch.status == "cancelled"
        assert batch.cancelling_at is not None
        assert batch.cancelled_at is not None
        assert counts(batch) == (9, 4, 5)
        outputs, errors = await both(sdk, batch)
    assert sorted(outputs) == [f"quick-{n}" for n in range(4)]
    assert sorted(errors) == [f"slow-{n}" for n in range(5)]
    assert {result["error"]["code"] for result in errors.values()} == {"batch_cancelled"}
    assert {result["response"] for result in errors.values()} == {None}


async def test_what_is_not_done_in_time_expires(new_stack: NewStack, marker: str) -> None:
    stack = new_stack(slots=4, batch_window_s=8)
    lines = [line("quick", marker, say("Quick.")), line("slow", marker, script(stall(60), text("Late.")))]
    async with stack.sdk() as sdk:
        batch = await end_of(sdk, await begin(sdk, lines))
        assert batch.status == "expired"
        assert batch.expired_at is not None
        outputs, errors = await both(sdk, batch)
    assert list(outputs) == ["quick"]
    assert errors["slow"]["error"]["code"] == "batch_expired"


async def test_a_request_behind_a_batch_is_served_as_if_there_were_none(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack(slots=2)
    lines = [line(f"{n}", marker, script(stall(60), text("Late."))) for n in range(10)]
    async with stack.sdk() as sdk:
        batch = await begin(sdk, lines)
        await eventually(stack.cli_processes, 20, "the batch is under way")
        assert text_of(await ask(sdk, say("At once."))) == "At once."
        assert counts(await sdk.batches.retrieve(batch.id)) == (10, 0, 0)
        await sdk.batches.cancel(batch.id)
        await end_of(sdk, batch)


@pytest.mark.timeout(180)
async def test_a_killed_worker_and_a_killed_api_cost_no_line_and_repeat_none(
    new_stack: NewStack, marker: str
) -> None:
    stack = new_stack(slots=4, was_killed=True)
    one = [line(f"one-{n}", f"{marker}-{n}.", say(f"One {n}.")) for n in range(14)]
    async with stack.sdk() as sdk:
        batch = await begin(sdk, one)
        await until(sdk, batch, lambda batch: counts(batch)[1] >= 3)
        stack.workers.pop().kill()
        stack.start_worker()
        await until(sdk, batch, lambda batch: counts(batch)[1] >= 7)
        stack.api.kill()
        stack.start_api()
        batch = await end_of(sdk, batch)
        assert (batch.status, counts(batch)) == ("completed", (14, 14, 0))
        outputs, errors = await both(sdk, batch)
    assert {name: said(result) for name, result in outputs.items()} == {
        f"one-{n}": f"One {n}." for n in range(14)
    }
    assert errors == {}


async def test_a_line_may_name_a_file_and_ask_for_several_choices(sdk: AsyncOpenAI, marker: str) -> None:
    file = await sdk.files.create(file=("note.md", b"words"), purpose="user_data")
    content = [
        {"type": "file", "file": {"file_id": file.id}},
        {"type": "text", "text": f"{marker} {say('Read.')}"},
    ]
    asked = line("a", n=2, messages=[{"role": "user", "content": content}])
    batch = await end_of(sdk, await begin(sdk, [asked]))
    outputs, _ = await both(sdk, batch)
    choices = outputs["a"]["response"]["body"]["choices"]
    assert [choice["message"]["content"] for choice in choices] == ["Read.", "Read."]
