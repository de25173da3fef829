"""One address may have so many connections; what is beyond is told so, and others are served on."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from api.front import Telemetry, turned_away
from api.metrics.process import ApiMetrics
from shared import crowds as crowding
from shared.crowds import Crowds, most_of
from shared.patience import patient_for
from shared.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "", "/run/x.sock"])
def test_loopback_is_not_counted(host: str) -> None:
    crowds = Crowds(0)
    assert crowds.enter(host) == ""
    crowds.leave("")
    assert not crowds.is_beyond("")


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_address_is_what_one_client_has(one: str, other: str, *, is_one: bool) -> None:
    crowds = Crowds(1)
    crowds.enter(one)
    name = crowds.enter(other)
    assert crowds.is_beyond(name) is is_one
    crowds.leave(name)
    assert not crowds.is_beyond(name)


def test_what_has_ended_is_forgotten() -> None:
    crowds = Crowds(1)
    for name in [crowds.enter("192.0.2.1") for _ in range(3)]:
        crowds.leave(name)
    assert crowds._open == {}


def test_by_default_an_address_may_have_half_of_what_the_process_may(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 4096
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert most_of(Settings()) == 2048
    assert most_of(Settings(connections_per_address=7)) == 7
    assert most_of(Settings(connections_per_address=0)) is None
    limit = resource.RLIM_INFINITY
    assert most_of(Settings()) is None


async def hello(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


@asynccontextmanager
async def served(most: int) -> AsyncIterator[int]:
    """A server that takes loopback for anybody's address; gives its port."""
    settings = Settings()
    config = uvicorn.Config(
        hello,
        port=0,
        http=patient_for(20, Crowds(most, turned_away(settings, Telemetry(ApiMetrics(), None)))),
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.force_exit = True
        await server.shutdown()


async def said(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str = "/"
) -> tuple[str, str]:
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    async with asyncio.timeout(20):
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


async def test_beyond_its_number_an_address_is_told_so_and_then_hung_up_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(crowding, "_counted", lambda host: host)
    async with served(2) as port:
        quiet = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        head, body = await said(*await asyncio.open_connection("127.0.0.1", port), "/v1/chat/completions")
        assert head.startswith("HTTP/1.1 429 ")
        assert "retry-after: 1\r\n" in head
        assert "x-content-type-options: nosniff" in head
        assert json.loads(body)["error"]["code"] == "too_many_connections"
        head, body = await said(*await asyncio.open_connection("127.0.0.1", port), "/v1/messages")
        assert json.loads(body)["error"]["type"] == "rate_limit_error"
        assert json.loads(body)["type"] == "error"
        silent_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await rest(reader) == b"", "hung up"
        for silent, _ in silent_ones:  # who does not ask soon is not waited for
            assert await rest(silent) == b""
        for _, each in (*quiet, *silent_ones, (reader, writer)):
            each.close()
        for _ in range(500):  # until the server has seen that they are gone
            _, body = await said(*await asyncio.open_connection("127.0.0.1", port))
            if body == "hi":
                break
        assert body == "hi"


async def rest(reader: asyncio.StreamReader) -> bytes:
    with suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            return await reader.read()
    return b""
