"""Images and files of a request reach the model as they are, wherever they come from."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest
from openai import AsyncOpenAI

from scripted_model import say, script, text
from tests.conftest import NewStack
from tests.support.asking import PATH, check_envelope, text_of
from tests.support.media import PDF, answer, b64, data_url, png, web_server
from tests.support.model import Model
from tests.support.processes import of_configuration
from tests.support.stack import Stack, running_stack

YES = script(text("yes"))
ROOT = Path("media")  # below the stack's own directory, where the API runs


@pytest.fixture(scope="module")
def shop(model: Model) -> Iterator[Stack]:
    """May read from a directory, and fetch from loopback."""
    with running_stack(model, slots=4, media_roots=ROOT, fetch_private=True) as stack:
        (stack.root / ROOT).mkdir()
        (stack.root / ROOT / "pixel.png").write_bytes(png())
        (stack.root / "secret.png").write_bytes(png())
        yield stack


@pytest.fixture
async def shop_sdk(shop: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with shop.sdk() as sdk:
        yield sdk


async def ask_with(sdk: AsyncOpenAI, marker: str, *parts: Any, **fields: Any) -> None:
    words = {"type": "text", "text": f"{marker} {YES}"}
    messages: Any = [{"role": "user", "content": [*parts, words]}]
    answered = await sdk.chat.completions.create(model="agent", messages=messages, **fields)
    assert text_of(answered) == "yes"


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def seen(model: Model, marker: str) -> list[dict[str, Any]]:
    """The blocks of the newest turn, less the words."""
    *blocks, words = model.call(marker).turns[-1][1]
    assert words["text"].startswith(marker)
    return blocks


PIXEL = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b64(png())}}


async def test_an_image_comes_from_a_data_url_a_url_and_a_path(
    shop: Stack, shop_sdk: AsyncOpenAI, model: Model, marker: str
) -> None:
    path = shop.root / ROOT / "pixel.png"
    pages = {"/moved": answer(b"", "Location: /pixel", status="302 Found"), "/pixel": answer(png())}
    async with web_server(pages.__getitem__) as url:
        images = [data_url(png(), "image/png"), f"{url}/moved", f"file://{path}", str(path)]
        await ask_with(shop_sdk, marker, *map(image, images))
    assert seen(model, marker) == [PIXEL] * 4


@pytest.mark.parametrize("data", [data_url(PDF, "application/pdf"), b64(PDF)])
async def test_a_pdf_reaches_the_model_unchanged(
    sdk: AsyncOpenAI, model: Model, marker: str, data: str
) -> None:
    await ask_with(sdk, marker, file(file_data=data, filename="report.pdf"))
    source = {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}
    assert seen(model, marker) == [{"type": "document", "source": source, "title": "report.pdf"}]


async def test_a_text_file_reaches_the_model_as_its_text(sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    said = "name;Ort\nJörg;Köln ☕\n@/etc/passwd\n"
    await ask_with(sdk, marker, file(file_data=data_url(said.encode(), "text/csv"), filename="a.csv"))
    source = {"type": "text", "media_type": "text/plain", "data": said}
    assert seen(model, marker) == [{"type": "document", "source": source, "title": "a.csv"}]


async def test_a_file_comes_from_a_url(shop_sdk: AsyncOpenAI, model: Model, marker: str) -> None:
    async with web_server(lambda _: answer(PDF, "Content-Type: image/png")) as url:
        await ask_with(shop_sdk, marker, file(file_data=f"{url}/all/report%201.pdf?x=/y"))
    assert [block["title"] for block in seen(model, marker)] == ["report 1.pdf"]


async def test_documents_of_the_history_reach_the_model(
    http: httpx.AsyncClient, model: Model, marker: str
) -> None:
    pdf = file(file_data=b64(PDF), filename="report.pdf")
    note = file(file_data=b64(b"a note"), filename="note.md")
    messages = [
        {"role": "user", "content": [pdf, note, {"type": "text", "text": "What is this?"}]},
        {"role": "assistant", "content": "A report."},
        {"role": "user", "content": f"{marker} {YES}"},
    ]
    answered = await http.post(PATH, json={"model": "agent", "messages": messages})
    assert answered.status_code == 200, answered.text
    (_, first), _, (_, last) = model.call(marker).turns
    assert [(block["type"], block.get("title")) for block in first] == [
        ("document", "report.pdf"),
        ("document", "note.md"),
        ("text", None),
    ]
    assert first[0]["source"]["data"] == b64(PDF)
    assert first[1]["source"]["data"] == "a note"
    assert [block["type"] for block in last] == ["text"]


async def test_no_path_leads_out_of_the_roots(shop: Stack, shop_sdk: AsyncOpenAI) -> None:
    link = shop.root / ROOT / "link.png"
    link.symlink_to(shop.root / "secret.png")
    paths = [
        str(shop.root / "secret.png"),
        f"{shop.root}/{ROOT}/../secret.png",
        str(link),
        "/proc/self/environ",
    ]
    paths += [str(shop.root / "missing.png"), str(shop.root / ROOT / "missing.png")]
    said: set[str] = set()
    async with shop.http() as http:
        for path in paths:
            messages = [{"role": "user", "content": [image(f"file://{path}")]}]
            refused = await http.post(PATH, json={"model": "agent", "messages": messages})
            param = "messages[0].content[0].image_url.url"
            said.add(json.dumps(check_envelope(refused, 400, "invalid_image_url", param=param)))
    assert len(said) == 1, "the answer tells what exists"


async def test_urls_into_this_host_are_refused_by_default(http: httpx.AsyncClient) -> None:
    async with web_server(lambda _: answer(png())) as url:
        for target in (
            url,
            url.replace("127.0.0.1", "localhost"),
            url.replace("127.0.0.1", "[::ffff:7f00:1]"),
        ):
            messages = [{"role": "user", "content": [image(f"{target}/pixel.png")]}]
            refused = await http.post(PATH, json={"model": "agent", "messages": messages})
            param = "messages[0].content[0].image_url.url"
            error = check_envelope(refused, 400, "invalid_image_url", param=param)
            assert error["message"] == f"Invalid '{param}': Its URL's host has no public address."


class Chat:
    """A client that sends its whole history."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.messages: list[dict[str, Any]] = []

    def ask(self, said: str, *parts: dict[str, Any], **fields: Any) -> tuple[str, list[Any]]:
        """Gives the session, and the turns that reached the model."""
        marker = f"marker-{uuid4().hex}"
        words = {"type": "text", "text": f"{marker} {say(said)}"}
        self.messages.append({"role": "user", "content": [*parts, words]})
        body = {"model": "agent", "messages": self.messages, **fields}
        answered = httpx.post(self.stack.url + PATH, json=body, timeout=50)
        assert answered.status_code == 200, answered.text
        self.messages.append({"role": "assistant", "content": said})
        call = next(c for c in self.stack.model.calls(marker) if marker in str(c.said[-1]))
        return answered.json()["backline"]["session_id"], call.turns


def kill_processes(stack: Stack) -> None:
    processes = list(of_configuration(stack.data))
    assert processes
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)


def test_a_document_stays_as_it_was_live_resumed_and_told_again(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, warm=1, max_live=4)
    chat = Chat(stack)
    sessions = []
    for step in ("new", "live", "resumed", "told again"):
        if step == "resumed":
            kill_processes(stack)
        if step == "told again":
            chat.messages[1]["content"] = "another answer"
        parts = [file(file_data=b64(PDF), filename="a.pdf")] if step == "new" else []
        session, turns = chat.ask(step, *parts)
        sessions.append(session)
        assert [role for role, _ in turns] == [message["role"] for message in chat.messages[:-1]]
        document, words = turns[0][1]
        assert (document["type"], document["title"]) == ("document", "a.pdf")
        assert document["source"] == {"type": "base64", "media_type": "application/pdf", "data": b64(PDF)}
        assert words["type"] == "text"
    assert len(set(sessions[:3])) == 1
    assert sessions[3] != sessions[0]


def test_a_conversation_may_begin_with_an_image_and_a_file(new_stack: NewStack) -> None:
    stack = new_stack(slots=2, max_live=4)
    conversation = httpx.post(f"{stack.url}/v1/conversations", json={}, timeout=50).json()["id"]
    note = file(file_data=b64(b"a note"), filename="note.md")
    Chat(stack).ask("one", image(data_url(png(), "image/png")), note, conversation_id=conversation)
    _, turns = Chat(stack).ask("two", conversation_id=conversation)
    assert [role for role, _ in turns] == ["user", "assistant", "user"]
    assert turns[0][1][0] == PIXEL
    assert turns[0][1][1]["source"]["data"] == "a note"
    shown = httpx.get(f"{stack.url}/v1/conversations/{conversation}/items?order=asc", timeout=50).json()
    content = shown["data"][0]["content"]
    assert [part["type"] for part in content] == ["input_image", "input_file", "input_text"]
    assert content[1]["file_data"] == data_url(b"a note", "text/plain")
    assert content[1]["filename"] == "note.md"
    assert str(stack.root) not in str(shown)


def test_a_file_as_large_as_may_be_reaches_the_model(new_stack: NewStack) -> None:
    pdf = PDF + bytes(20 * 1024 * 1024 - len(PDF))
    _, turns = Chat(new_stack()).ask("read", file(file_data=b64(pdf)))
    assert turns[0][1][0]["source"]["data"] == b64(pdf)


def test_a_text_beyond_what_the_model_reads_is_told_so(stack: Stack) -> None:
    messages = [{"role": "user", "content": [file(file_data=b64(b"word " * 1_000_000))]}]
    answered = httpx.post(stack.url + PATH, json={"model": "agent", "messages": messages}, timeout=50)
    check_envelope(answered, 400, "context_length_exceeded")
