"""The proxy before the model: who may pass, what is added, and that nothing is held up on the way."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from shared.settings import Settings
from shared.tasks import end_tasks
from tests.unit.support import eventually
from worker.gate import holds
from worker.gate.gate import Gate
from worker.gate.holds import Holds
from worker.gate.metering import Meter
from worker.gate.passes import Pass
from worker.gate.upstream import find_upstream

KEY = "sk-ant-the-operators"
BODY = {"model": "claude-x", "messages": []}
START = b'{"type":"message_start","message":{"usage":{"input_tokens":7,"cache_read_input_tokens":3}}}'
EVENTS = (
    b"event: message_start\ndata: " + START + b"\n\n",
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"usage"}}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":42}}\n\n',
)

Answering = Callable[["Heard"], Awaitable[None]]


class Heard:
    """One request as the service upstream received it, and its line back."""

    def __init__(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        self.line, *lines = head.decode("latin-1").strip().split("\r\n")
        self.headers = {name.lower(): value.strip() for name, _, value in (li.partition(":") for li in lines)}
        self.body = body
        self.writer = writer
        self.was_hung_up = asyncio.Event()

    async def say(self, status: int, body: bytes, *headers: str) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers, "", ""])
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def begin_stream(self) -> None:
        self.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()


class Service:
    """Stands for the model's service: keeps what it hears, answers as it is told."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answer: Answering = lambda heard: heard.say(200, b"{}", "content-type: application/json")
        self.url = ""
        self._open: set[asyncio.StreamWriter] = set()

    @asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}" if context is None else f"https://localhost:{port}"
        async with server:
            yield self
            await eventually(lambda: not self._open, "every connection is closed")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                heard = Heard(head, b"", writer)
                heard.body = await reader.readexactly(int(heard.headers.get("content-length", "0")))
                self.heard.append(heard)
                await self.answer(heard)
        if self.heard:
            self.heard[-1].was_hung_up.set()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._open.discard(writer)


class Front:
    """A gate before a service, and a process's pass."""

    def __init__(self, gate: Gate, service: Service, client: httpx.AsyncClient) -> None:
        self.gate = gate
        self.service = service
        self.issued = gate.issue()
        self.client = client

    async def post(self, path: str = "/v1/messages", body: object = BODY, **headers: str) -> httpx.Response:
        shown = headers or {"x-api-key": self.issued.token}
        return await self.client.post(path, json=body, headers=shown)


@pytest.fixture
async def front() -> AsyncIterator[Front]:
    async with Service().listening() as service, behind(service) as front:
        yield front


@asynccontextmanager
async def behind(
    service: Service, more: dict[str, str] | None = None, **settings: Any
) -> AsyncIterator[Front]:
    environ = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": service.url, **(more or {})}
    environ["ANTHROPIC_CUSTOM_HEADERS"] = "X-Team: us\nnot a header"
    given = Settings(**settings)
    upstream = find_upstream(given, environ)
    assert upstream is not None
    gate = Gate(upstream, given, environ)
    task = asyncio.create_task(gate.run())
    try:
        async with httpx.AsyncClient(base_url=gate._url, timeout=20) as client:
            yield Front(gate, service, client)
    finally:
        await end_tasks([task])


async def test_a_pass_is_exchanged_for_the_key(front: Front) -> None:
    answer = await front.client.post(
        "/v1/messages?beta=true",
        json=BODY,
        headers={"x-api-key": front.issued.token, "anthropic-beta": "b", "x-team": "mine", "cookie": "c"},
    )
    assert (answer.status_code, answer.json()) == (200, {})
    (heard,) = front.service.heard
    assert heard.line == "POST /v1/messages?beta=true HTTP/1.1"
    assert heard.headers["x-api-key"] == KEY
    assert heard.headers["anthropic-beta"] == "b"
    assert heard.headers["x-team"] == "us"
    assert "cookie" not in heard.headers
    assert front.issued.token not in repr(heard.headers)
    assert json.loads(heard.body) == BODY


@pytest.mark.parametrize(
    "shown",
    [
        {"x-api-key": "pass-forged"},
        {"x-api-key": KEY},
        {"x-api-key": ""},
        {"authorization": "Bearer pass-forged"},
        {"authorization": "Bearer"},
    ],
)
async def test_who_has_no_pass_is_refused(front: Front, shown: dict[str, str]) -> None:
    answer = await front.post(**shown)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
    assert front.service.heard == []


async def test_a_pass_ends_with_its_process(front: Front) -> None:
    assert (await front.post(authorization=f"Bearer {front.issued.token}")).status_code == 200
    front.gate.revoke(front.issued)
    front.gate.revoke(front.issued)
    assert (await front.post()).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages"),
        ("GET", "/v1/models"),
        ("POST", "/v1/files"),
        ("POST", "/v1/organizations/api_keys"),
        ("POST", "//v1/messages"),
        ("POST", "/v1/messages/../files"),
        ("POST", "/v1/messages%2f..%2ffiles"),
        ("DELETE", "/v1/messages"),
    ],
)
async def test_only_messages_are_served(front: Front, method: str, path: str) -> None:
    request = httpx.Request(method, front.gate._url, headers={"x-api-key": front.issued.token})
    request.url = request.url.copy_with(raw_path=path.encode())
    assert (await front.client.send(request)).status_code == 404
    assert front.service.heard == []


@pytest.mark.parametrize("body", [[], "x", 1, None, {"model": 1}])
async def test_what_is_no_request_goes_nowhere(front: Front, body: object) -> None:
    assert (await front.post(body=body)).status_code == 400
    assert front.service.heard == []


async def test_only_allowed_models_are_called() -> None:
    async with Service().listening() as service, behind(service, allowed_models=("claude-x",)) as front:
        assert (await front.post()).status_code == 200
        refused = await front.post(body={**BODY, "model": "claude-dear"})
        assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
        assert len(service.heard) == 1


async def test_each_piece_passes_before_the_next_is_there(front: Front) -> None:
    may_go_on = asyncio.Queue[None]()

    async def answer(heard: Heard) -> None:
        await heard.begin_stream()
        for event in EVENTS:
            await heard.chunk(event)
            await may_go_on.get()
        await heard.chunk(b"")
        heard.writer.write(b"\r\n")

    front.service.answer = answer
    shown = {"x-api-key": front.issued.token}
    async with front.client.stream("POST", "/v1/messages", json=BODY, headers=shown) as got:
        assert got.headers["content-type"] == "text/event-stream"
        pieces = got.aiter_raw()
        for event in EVENTS:
            assert await anext(pieces) == event
            may_go_on.put_nowait(None)
    counted = front.issued
    await eventually(lambda: counted.calls, "it is counted")
    assert (counted.calls, counted.input_tokens, counted.output_tokens) == (1, 10, 42)


async def test_a_stream_that_is_cut_upstream_is_cut_here(front: Front) -> None:
    async def answer(heard: Heard) -> None:
        await heard.begin_stream()
        await heard.chunk(EVENTS[0])
        heard.writer.transport.abort()

    front.service.answer = answer
    with pytest.raises(httpx.RemoteProtocolError):
        await front.post()


async def test_who_hangs_up_hangs_up_on_the_service(front: Front) -> None:
    async def answer(heard: Heard) -> None:
        await heard.begin_stream()
        await heard.chunk(EVENTS[0])

    front.service.answer = answer
    shown = {"x-api-key": front.issued.token}
    async with front.client.stream("POST", "/v1/messages", json=BODY, headers=shown) as got:
        await anext(got.aiter_raw())
    await asyncio.wait_for(front.service.heard[0].was_hung_up.wait(), 10)


RAW = b"POST /v1/messages HTTP/1.1\r\nhost: x\r\nx-api-key: %s\r\ncontent-length: %d\r\n\r\n%s"


@pytest.mark.parametrize("is_split", [True, False])
async def test_a_request_does_not_ride_on_the_one_before_it(front: Front, is_split: bool) -> None:
    """What comes before the answer is no part of an admitted request, and ends the connection."""
    began = asyncio.Event()

    async def answer(heard: Heard) -> None:
        began.set()
        await heard.begin_stream()

    front.service.answer = answer
    body = json.dumps(BODY).encode()
    first = RAW % (front.issued.token.encode(), len(body), body)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(front.gate._url.rpartition(":")[2]))
    writer.write(first if is_split else first + b"GET /../v1/models HTTP/1.1\r\n\r\n")
    if is_split:
        await asyncio.wait_for(began.wait(), 10)
        writer.write(b"GET /../v1/models HTTP/1.1\r\n\r\n")
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 10)  # to its end
    assert [heard.line for heard in front.service.heard] in ([], ["POST /v1/messages HTTP/1.1"])
    writer.close()


@pytest.mark.parametrize(
    "said", [b"\x16\x03\x01", b"POST /v1/messages HTTP/1.1\r\n" + b"x: " + b"y" * 200_000]
)
async def test_what_is_no_http_is_hung_up_on(front: Front, said: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(front.gate._url.rpartition(":")[2]))
    writer.write(said)
    with suppress(ConnectionError):
        assert b"invalid_request" in await asyncio.wait_for(reader.read(), 10) or len(said) > 1000
    writer.close()
    assert front.service.heard == []


async def test_only_so_many_connections_are_taken(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.gate.inward._MOST_CONNECTIONS", 3)
    port = int(front.gate._url.rpartition(":")[2])
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    await asyncio.sleep(0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, each in [*opened, (reader, writer)]:
        each.close()
    await asyncio.sleep(0.1)
    assert (await front.post()).status_code == 200


async def test_a_connection_to_the_service_serves_many_calls(front: Front) -> None:
    for _ in range(5):
        assert (await front.post()).status_code == 200
    assert len({id(heard.writer) for heard in front.service.heard}) == 1


async def test_a_connection_that_the_service_closed_is_not_used_again(front: Front) -> None:
    async def answer(heard: Heard) -> None:
        await heard.say(200, b"{}", "connection: close")
        heard.writer.close()

    front.service.answer = answer
    assert [(await front.post()).status_code for _ in range(3)] == [200, 200, 200]


async def test_a_slow_reader_holds_up_the_service_and_not_the_memory(front: Front) -> None:
    sent = 0

    async def answer(heard: Heard) -> None:
        nonlocal sent
        await heard.begin_stream()
        for _ in range(2000):
            await heard.chunk(b"x" * 65536)
            sent += 65536

    front.service.answer = answer
    shown = {"x-api-key": front.issued.token}
    async with front.client.stream("POST", "/v1/messages", json=BODY, headers=shown) as got:
        await anext(got.aiter_raw())
        await asyncio.sleep(1)
        assert 0 < sent < 40 * 2**20


class Forward:
    """An HTTP proxy that opens tunnels."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        host, _, port = head.split()[1].rpartition(":")
        if "Basic dXM6YXM=" not in head:  # us:as
            writer.write(b"HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Yes\r\n\r\n")

        async def pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        with suppress(ConnectionError):
            await asyncio.gather(pour(reader, to_writer), pour(to_reader, writer))


@pytest.mark.parametrize(("user", "status"), [("us:as", 200), ("us:no", 502)])
async def test_calls_go_through_the_environments_proxy_encrypted(
    tmp_path: Path, user: str, status: int
) -> None:
    authority, forward = trustme.CA(), Forward()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    between = await asyncio.start_server(forward.serve, "127.0.0.1", 0)
    port = between.sockets[0].getsockname()[1]
    environ = {"HTTPS_PROXY": f"http://{user}@127.0.0.1:{port}", "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    async with between, Service().listening(context) as service, behind(service, environ) as front:
        assert [(await front.post()).status_code for _ in range(2)] == [status, status]
        assert forward.heads[0].startswith(f"CONNECT {service.url.removeprefix('https://')} ")
        assert KEY not in "".join(forward.heads)


async def test_failures_of_the_service_come_as_they_are(front: Front) -> None:
    said = b'{"type":"error","error":{"type":"overloaded_error","message":"Busy."}}'
    front.service.answer = lambda heard: heard.say(529, said, "request-id: r-1", "set-cookie: x=y")
    answer = await front.post()
    assert (answer.status_code, answer.content) == (529, said)
    assert answer.headers["request-id"] == "r-1"


async def test_a_service_that_is_not_there_is_a_502(front: Front) -> None:
    async def answer(heard: Heard) -> None:
        heard.writer.transport.abort()

    front.service.answer = answer
    got = await front.post()
    assert (got.status_code, got.json()["error"]["type"]) == (502, "api_error")
    assert "127.0.0.1" not in got.text


async def test_calls_wait_out_a_limit_instead_of_asking_again(
    front: Front, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    async def noted(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("worker.gate.holds.asyncio.sleep", noted)
    held = Holds()
    held.note("m", 200, {"retry-after": "9"})
    held.note("m", 429, {})
    held.note("m", 429, {"retry-after": "soon"})
    await held.wait("m")
    assert waits == []
    held.note("m", 429, {"retry-after": "9"})
    held.note("m", 529, {"retry-after": "3"})  # a shorter one takes nothing back
    await held.wait("m")
    await held.wait("another")
    assert [8 < each < 10 for each in waits] == [True]
    held.note("m", 429, {"retry-after": "86400"})
    await held.wait("m")
    assert waits[-1] <= holds.MOST_S + 1


def test_tokens_are_counted_however_the_bytes_are_cut() -> None:
    whole = b"".join(EVENTS)
    for size in (1, 7, 64, len(whole)):
        counted = Pass()
        meter = Meter(counted, is_stream=True)
        for start in range(0, len(whole), size):
            meter.feed(whole[start : start + size])
        meter.close()
        assert (counted.calls, counted.input_tokens, counted.output_tokens) == (1, 10, 42)
    counted = Pass()
    meter = Meter(counted, is_stream=False)
    meter.feed(b'{"usage": {"input_tokens": 5, "output_tokens": 6}}')
    meter.close()
    assert (counted.input_tokens, counted.output_tokens) == (5, 6)
