"""A client that holds a connection and says too little is hung up on; one that is merely slow is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from shared.patience import patient_for

TIMEOUT_S = 0.3
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n"


class Application:
    """Reads a body, once it is let, and says how long it was."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def __call__(self, _: Any, receive: Any, send: Any) -> None:
        await self.may_read.wait()
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
        body = str(size).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def say(self, words: bytes) -> None:
        self.writer.write(words)

    async def answer(self) -> bytes:
        """The body of the next answer."""
        async with asyncio.timeout(20):
            head = await self.reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """What comes until the server hangs up."""
        async with asyncio.timeout(20):
            return await self.reader.read()


@asynccontextmanager
async def served(app: Application, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Client]:
    config = uvicorn.Config(
        app, port=0, http=patient_for(timeout_s), lifespan="off", log_config=None, timeout_keep_alive=60
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        server.force_exit = True
        await server.shutdown()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\r\n\r\n",
        b"POST / HT",
        HEAD,
        HEAD + b"content-length: 5\r\n\r\n",
        HEAD + b"content-length: 5\r\n\r\nhell",
        HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
async def test_a_client_that_stops_in_the_middle_is_left(said: bytes, *, is_first: bool) -> None:
    async with served(Application()) as client:
        if not is_first:
            client.say(HEAD + b"content-length: 2\r\n\r\nhi")
            assert await client.answer() == b"2"
            said = said or b"\r\n"  # a kept connection may rest, as long as nothing comes
        client.say(said)
        assert await client.rest() == b""


async def test_a_client_that_drips_is_left() -> None:
    async with served(Application()) as client:
        client.say(HEAD + b"content-length: 1000\r\n\r\n")
        for _ in range(200):
            client.say(b"x")
            await asyncio.sleep(0.02)
            if is_over := client.reader.at_eof() or client.reader.exception() is not None:  # closed, or reset
                break
        assert is_over


async def test_a_slow_body_that_comes_is_heard() -> None:
    async with served(Application(), timeout_s=1) as client:
        client.say(HEAD + b"content-length: 20000\r\n\r\n")
        for _ in range(20):
            client.say(b"x" * 1000)
            await asyncio.sleep(0.1)
        assert await client.answer() == b"20000"


async def test_a_server_that_does_not_read_blames_nobody() -> None:
    app = Application()
    app.may_read.clear()
    async with served(app) as client:
        client.say(HEAD + b"content-length: 5000000\r\n\r\n" + b"x" * 5_000_000)
        await asyncio.sleep(4 * TIMEOUT_S)
        app.may_read.set()
        assert await client.answer() == b"5000000"


async def test_an_answer_takes_as_long_as_it_takes() -> None:
    app = Application()
    app.may_read.clear()
    async with served(app) as client:
        client.say(HEAD + b"content-length: 2\r\n\r\nhi")
        await asyncio.sleep(4 * TIMEOUT_S)
        app.may_read.set()
        assert await client.answer() == b"2"


async def test_a_head_without_an_end_is_refused() -> None:
    async with served(Application(), timeout_s=20) as client:
        client.say(HEAD + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 1000) for n in range(100)))
        assert b"400" in (await client.rest()).split(b"\r\n")[0]
