"""Files come back as they were sent, are bounded, and go when their time is over."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import httpx2  # the SDK's own
import openai
import psutil
import pytest
from openai import AsyncOpenAI

from scripted_model import say
from tests.conftest import NewStack
from tests.support.asking import check_envelope, text_of
from tests.support.media import png
from tests.support.stack import Stack
from tests.support.waiting import wait_for

MIB = 1024 * 1024
LINE = b'{"custom_id": "1"}\n'
Expiry = tuple[str | None, str | None]


def form(
    content: bytes = b"words", name: str = "a.txt", purpose: str = "user_data", expiry: Expiry = (None, None)
) -> dict[str, Any]:
    fields = {"expires_after[anchor]": expiry[0], "expires_after[seconds]": expiry[1]}
    given = {name: value for name, value in fields.items() if value is not None}
    return {"files": {"file": (name, content)}, "data": {"purpose": purpose, **given}}


async def upload(http: httpx.AsyncClient, *args: Any, **fields: Any) -> httpx.Response:
    return await http.post("/v1/files", **form(*args, **fields))


async def test_a_file_makes_the_round_trip_of_the_sdk(sdk: AsyncOpenAI) -> None:
    made = await sdk.files.create(file=("Zoë's words.txt", b"some words\n"), purpose="user_data")
    assert made.id.startswith("file-")
    assert (made.bytes, made.filename, made.purpose) == (11, "Zoë's words.txt", "user_data")
    assert (made.object, made.status) == ("file", "processed")
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == 30 * 24 * 3600
    assert await sdk.files.retrieve(made.id) == made
    content = await sdk.files.content(made.id)
    assert content.content == b"some words\n"
    assert content.response.headers["content-type"] == "application/octet-stream"
    assert content.response.headers["content-disposition"].startswith("attachment;")
    gone = await sdk.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    for call in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError) as error:
            await call(made.id)
        assert error.value.code == "file_not_found"


async def test_files_are_listed_by_age_and_purpose(sdk: AsyncOpenAI) -> None:
    made = [await sdk.files.create(file=(f"{n}.jsonl", LINE), purpose="batch") for n in range(3)]
    other = await sdk.files.create(file=("x.txt", b"x"), purpose="assistants")
    ids = [file.id for file in made]
    newest = await sdk.files.list(purpose="batch", limit=2)
    assert [file.id for file in newest.data] == ids[:0:-1]
    assert newest.has_more
    listed = [file.id async for file in sdk.files.list(purpose="batch", order="asc")]
    assert [each for each in listed if each in ids] == ids
    assert other.id not in listed
    after = await sdk.files.list(after=ids[1], order="asc", limit=2)
    assert [file.id for file in after.data] == [ids[2], other.id]
    with pytest.raises(openai.BadRequestError):
        await sdk.files.list(after="file-nowhere")


@pytest.mark.parametrize(
    ("sent", "status", "param", "code"),
    [
        (form(purpose="fine-tune"), 400, "purpose", "invalid_value"),
        (form(purpose="evals"), 400, "purpose", "invalid_value"),
        ({"files": {"file": ("a", b"x")}}, 400, "purpose", "missing_required_parameter"),
        ({"files": {"purpose": (None, "batch")}}, 400, "file", "missing_required_parameter"),
        (form(b""), 400, "file", "invalid_file"),
        (form(b"a,b\n", purpose="batch"), 400, "file", "invalid_file_format"),
        (form(expiry=("now", None)), 400, "expires_after.anchor", "invalid_value"),
        (
            form(expiry=("created_at", "60")),
            400,
            "expires_after.seconds",
            "invalid_value",
        ),
        ({"json": {"purpose": "batch"}}, 400, None, "invalid_content_type"),
        (
            {"content": b"--x\r\nnonsense", "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            None,
            "invalid_multipart",
        ),
    ],
)
async def test_a_form_that_does_not_do_is_refused_by_name_and_leaves_nothing(
    http: httpx.AsyncClient, stack: Stack, sent: dict[str, Any], status: int, param: str | None, code: str
) -> None:
    before = stored(stack)
    check_envelope(await http.post("/v1/files", **sent), status, code, param=param)
    assert stored(stack) == before


async def test_a_file_may_come_before_its_purpose(http: httpx.AsyncClient) -> None:
    answer = await http.post(
        "/v1/files", files=[("file", ("../../etc/pass\\wd", b"words")), ("purpose", (None, "user_data"))]
    )
    assert answer.json()["filename"] == "wd"


async def test_a_file_that_is_sent_again_with_its_key_is_stored_once(
    sdk: AsyncOpenAI, http: httpx.AsyncClient, stack: Stack, marker: str
) -> None:
    key = {"Idempotency-Key": marker}

    async def create(content: bytes) -> openai.types.FileObject:
        return await sdk.files.create(file=("a.txt", content), purpose="user_data", extra_headers=key)

    first = await create(b"some words")
    blobs = stored(stack)
    assert await create(b"some words") == first
    again = await upload(http, b"some words", name="a.txt")  # without the key
    assert again.json()["id"] != first.id
    answer = await http.post("/v1/files", **form(b"some words", "a.txt"), headers=key)
    assert (answer.json()["id"], answer.headers["idempotent-replayed"]) == (first.id, "true")
    for other in (
        form(b"other words", "a.txt"),
        form(b"some words", "b.txt"),
        form(b"some words", "a.txt", "vision"),
    ):
        refused = await http.post("/v1/files", **other, headers=key)
        check_envelope(refused, 422, "idempotency_key_reused", param="Idempotency-Key")
    await http.delete(f"/v1/files/{again.json()['id']}")
    assert stored(stack) == blobs
    await sdk.files.delete(first.id)
    gone = await http.post("/v1/files", **form(b"some words", "a.txt"), headers=key)
    check_envelope(gone, 409, "idempotent_answer_gone", param="Idempotency-Key")
    long = await http.post("/v1/files", **form(), headers={"Idempotency-Key": "x" * 256})
    check_envelope(long, 400, "invalid_value", param="Idempotency-Key")


async def test_an_upload_whose_answer_was_lost_is_stored_once(stack: Stack, marker: str) -> None:
    """OpenAI's own client: the connection breaks before the answer, and it sends the file again."""
    answers: list[httpx2.Response] = []

    async def lose_the_first(answer: httpx2.Response) -> None:
        await answer.aread()
        answers.append(answer)
        if len(answers) == 1:
            raise httpx2.ReadError("It broke.", request=answer.request)

    async with AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="unused") as sdk:
        sdk._client.event_hooks = {"response": [lose_the_first]}
        made = await sdk.files.create(file=(f"{marker}.txt", b"some words"), purpose="user_data")
        assert [json.loads(answer.content)["id"] for answer in answers] == [made.id, made.id]
        assert "idempotent-replayed" in answers[1].headers
        another = await sdk.files.create(file=(f"{marker}.txt", b"some words"), purpose="user_data")
        assert another.id != made.id  # asked for anew
        assert [file.filename async for file in sdk.files.list()].count(f"{marker}.txt") == 2


async def test_a_retry_does_not_bring_back_what_was_deleted(http: httpx.AsyncClient, marker: str) -> None:
    def sent(tries: int) -> dict[str, Any]:
        return {**form(marker.encode()), "headers": {"x-stainless-retry-count": str(tries)}}

    first = (await http.post("/v1/files", **sent(0))).json()
    assert (await http.post("/v1/files", **sent(1))).json() == first
    await http.delete(f"/v1/files/{first['id']}")
    anew = (await http.post("/v1/files", **sent(1))).json()
    assert anew["id"] != first["id"]
    assert (await http.get(f"/v1/files/{anew['id']}/content")).content == marker.encode()


async def test_a_file_goes_when_its_time_is_over(http: httpx.AsyncClient, stack: Stack) -> None:
    made = (await upload(http, expiry=("created_at", "3600"))).json()
    assert made["expires_at"] - made["created_at"] == 3600
    with stack.redis_client() as client:
        (name,) = client.scan_iter(f"backline:file:*:{made['id']}")
        assert 3_590_000 < int(client.pttl(name)) <= 3_600_000  # type: ignore[arg-type]
        client.pexpire(name, 1)
        deadline = time.monotonic() + 5
        while client.exists(name):
            assert time.monotonic() < deadline
    check_envelope(await http.get(f"/v1/files/{made['id']}/content"), 404, "file_not_found", param="id")
    assert made["id"] not in [each["id"] for each in (await http.get("/v1/files")).json()["data"]]


async def test_a_file_beyond_the_bound_is_refused_while_it_comes(new_stack: NewStack) -> None:
    stack = new_stack(workers=0, max_upload_bytes=MIB, max_batch_bytes=1000, max_body_bytes=1000)
    async with stack.http() as http:
        assert (await upload(http, b"x" * MIB)).status_code == 200
        for sent in (form(b"x" * (MIB + 1)), form(LINE * 100, purpose="batch")):
            check_envelope(await http.post("/v1/files", **sent), 413, "file_too_large", param="file")
        assert len(stored(stack)) == 1


async def test_a_large_file_is_never_whole_in_memory(new_stack: NewStack) -> None:
    stack = new_stack(workers=0)
    process = psutil.Process(stack.api.pid)
    sent, got = hashlib.sha256(), hashlib.sha256()
    async with stack.http() as http:
        assert (await upload(http)).status_code == 200
        before = process.memory_info().rss

        async def body() -> AsyncIterator[bytes]:
            yield b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
            yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
            for piece in blocks():
                sent.update(piece)
                yield piece
            yield b"\r\n--x--\r\n"

        answer = await http.post(
            "/v1/files",
            content=body(),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        made = answer.json()
        assert made["bytes"] == 200 * MIB, made
        highest = process.memory_info().rss
        async with http.stream("GET", f"/v1/files/{made['id']}/content") as content:
            async for piece in content.aiter_bytes():
                got.update(piece)
                highest = max(highest, process.memory_info().rss)
    assert sent.digest() == got.digest()
    assert highest - before < 40 * MIB


async def test_an_upload_that_breaks_off_leaves_nothing(new_stack: NewStack) -> None:
    stack = new_stack(workers=0)

    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * MIB
        raise ConnectionError

    async with stack.http() as http:
        with pytest.raises(ConnectionError):
            await http.post(
                "/v1/files", content=body(), headers={"content-type": "multipart/form-data; boundary=x"}
            )
        assert (await http.get("/v1/files")).json()["data"] == []
    wait_for(lambda: stored(stack) == [], 10, "the API has noticed")


async def test_the_model_is_given_an_uploaded_file(
    sdk: AsyncOpenAI, stack: Stack, http: httpx.AsyncClient, marker: str
) -> None:
    made = (await upload(http, f"{marker} in a file".encode(), "note.md")).json()
    content = [
        {"type": "file", "file": {"file_id": made["id"]}},
        {"type": "text", "text": f"{marker} {say('Read.')}"},
    ]
    answer = await sdk.chat.completions.create(model="agent", messages=[{"role": "user", "content": content}])  # type: ignore[list-item,misc]
    assert text_of(answer) == "Read."
    seen = stack.model.call(marker).turns[-1][1]
    (document,) = [part for part in seen if part["type"] == "document"]
    assert (document["title"], document["source"]["data"]) == ("note.md", f"{marker} in a file")


async def test_a_response_is_asked_with_uploaded_images_and_files(
    sdk: AsyncOpenAI, stack: Stack, http: httpx.AsyncClient, marker: str
) -> None:
    note = (await upload(http, f"{marker} in a file".encode(), "note.md")).json()
    image = (await upload(http, png(), "dot.png", "vision")).json()
    content = [
        {"type": "input_image", "file_id": image["id"], "detail": "auto"},
        {"type": "input_file", "file_id": note["id"]},
        {"type": "input_text", "text": f"{marker} {say('Seen.')}"},
    ]
    asked: Any = [{"role": "user", "content": content}]
    response = await sdk.responses.create(model="agent", input=asked)
    assert response.output_text == "Seen."
    seen = {part["type"]: part for part in stack.model.call(marker).turns[-1][1]}
    assert seen["image"]["source"]["media_type"] == "image/png"
    assert (seen["document"]["title"], seen["document"]["source"]["data"]) == (
        "note.md",
        f"{marker} in a file",
    )
    content[0]["file_id"] = "file-none"
    with pytest.raises(openai.BadRequestError) as error:
        await sdk.responses.create(model="agent", input=asked)
    assert error.value.param == "input[0].content[0].file_id"


async def test_a_file_for_batches_is_no_part_of_a_message(sdk: AsyncOpenAI) -> None:
    made = await sdk.files.create(file=("a.jsonl", LINE), purpose="batch")
    part: Any = {"type": "file", "file": {"file_id": made.id}}
    with pytest.raises(openai.BadRequestError) as error:
        await sdk.chat.completions.create(model="agent", messages=[{"role": "user", "content": [part]}])
    assert error.value.param == "messages[0].content[0].file.file_id"


def stored(stack: Stack) -> list[str]:
    """The names of all files on the disk."""
    return sorted(str(path) for path in (stack.data / "files").rglob("*") if path.is_file())


def blocks() -> Iterator[bytes]:
    for number in range(200):
        yield number.to_bytes(4, "big") * (MIB // 4)
