"""The way out of an agent's sandbox leads to the hosts on its list, at public addresses, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from shared.hosts import is_listed, is_within
from shared.runs import LaunchOptions
from shared.settings import Settings
from shared.settings_sources import SettingsError, load_settings
from worker.claude.launch import Launch
from worker.egress import listening
from worker.egress import proxy as proxying
from worker.egress.dialer import Dialer, NotAllowedError, Streams, UnreachableError
from worker.egress.heads import BadHeadError, wish_of
from worker.egress.proxy import MOST_HEAD, Proxy
from worker.egress.way import Way

PUBLIC = "93.184.215.14"
LISTED = Settings(
    agent_network="listed", agent_hosts=("pypi.org", "*.example.com", "git.example.net:8443", "inside.test")
)


@pytest.mark.parametrize(
    ("host", "port", "is_allowed"),
    [
        ("pypi.org", 443, True),
        ("pypi.org", 80, True),
        ("pypi.org", 22, False),
        ("www.pypi.org", 443, False),
        ("notpypi.org", 443, False),
        ("pypi.org.evil.test", 443, False),
        ("a.example.com", 443, True),
        ("a.b.example.com", 443, True),
        ("example.com", 443, False),
        (".example.com", 443, False),
        ("anexample.com", 443, False),
        ("git.example.net", 8443, True),
        ("git.example.net", 443, False),
        ("93.184.215.14", 443, False),
    ],
)
def test_a_list_means_what_it_says(host: str, port: int, *, is_allowed: bool) -> None:
    assert is_listed(host, port, LISTED.agent_hosts) is is_allowed


@pytest.mark.parametrize(
    ("entry", "listed", "is_narrower"),
    [
        ("a.example.com", ("*.example.com",), True),
        ("*.a.example.com", ("*.example.com",), True),
        ("*.example.com", ("*.example.com",), True),
        ("*.example.com", ("a.example.com",), False),
        ("example.com", ("*.example.com",), False),
        ("*.com", ("*.example.com",), False),
        ("a.test:443", ("a.test",), True),
        ("a.test", ("a.test:443",), False),
        ("a.test", ("a.test:443", "a.test:80"), True),
        ("a.test:22", ("a.test",), False),
    ],
)
def test_an_entry_is_within_a_list_or_is_not(
    entry: str, listed: tuple[str, ...], *, is_narrower: bool
) -> None:
    assert is_within(entry, listed) is is_narrower


@pytest.mark.parametrize(
    "entry",
    ["10.0.0.1", "[::1]", "*", "*.*", "a.*.com", "https://a.test", "a.test:0", "a.test/x", "A.test", "1"],
)
def test_a_list_has_names_and_no_addresses(entry: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a list of hosts' names"):
        load_settings({"agent_hosts": entry}, {}, tmp_path)


class Names:
    """A resolver and a dialler that note what they are asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.dialer = Dialer(self.resolve, self.connect)

    async def resolve(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        if not self._answers:
            raise OSError("no such name")
        return self._answers.pop(0)

    async def connect(self, address: str, port: int) -> Streams:
        self.dialled.append((address, port))
        raise ConnectionRefusedError


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("::1", "fd00::1", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "224.0.0.1"),
    ],
)
async def test_a_listed_name_that_leads_inside_is_refused(address: str) -> None:
    for answer in ([address], [PUBLIC, address]):
        names = Names(answer)
        with pytest.raises(NotAllowedError, match="not public"):
            await names.dialer.dial("pypi.org", 443, LISTED)
        assert names.dialled == []


async def test_a_name_is_looked_up_once_and_dialled_at_what_was_checked() -> None:
    names = Names([PUBLIC], ["127.0.0.1"])
    with pytest.raises(UnreachableError):
        await names.dialer.dial("PyPI.org.", 443, LISTED)
    assert names.asked == ["pypi.org"]
    assert names.dialled == [(PUBLIC, 443)]


async def test_what_is_not_listed_is_not_even_looked_up() -> None:
    names = Names([PUBLIC])
    none = msgspec.structs.replace(LISTED, agent_network="none")
    for settings, host in ((LISTED, "evil.test"), (none, "pypi.org"), (LISTED, "169.254.169.254")):
        with pytest.raises(NotAllowedError):
            await names.dialer.dial(host, 443, settings)
    assert names.asked == []


async def test_an_operator_may_name_a_host_inside_and_never_metadata() -> None:
    inside = msgspec.structs.replace(LISTED, agent_private_hosts=("inside.test",))
    names = Names(["10.0.0.5"], ["169.254.169.254"], ["10.0.0.5"])
    with pytest.raises(UnreachableError):
        await names.dialer.dial("inside.test", 80, inside)
    assert names.dialled == [("10.0.0.5", 80)]
    with pytest.raises(NotAllowedError):
        await names.dialer.dial("inside.test", 80, inside)
    with pytest.raises(NotAllowedError):
        await names.dialer.dial("pypi.org", 80, inside)
    only_private = msgspec.structs.replace(inside, agent_hosts=())
    with pytest.raises(NotAllowedError):
        await Names(["10.0.0.5"]).dialer.dial("inside.test", 80, only_private)


def test_a_plain_request_is_told_to_its_host_as_its_own() -> None:
    wish = wish_of(
        b"GET http://Example.com:8080?q HTTP/1.1\r\nHost: other.test\r\nProxy-Authorization: x\r\n"
        b"Connection: keep-alive\r\nAccept: */*\r\n\r\n"
    )
    assert (wish.host, wish.port, wish.is_tunnel) == ("Example.com", 8080, False)
    assert wish.head == (
        b"GET /?q HTTP/1.1\r\nhost: Example.com:8080\r\nAccept: */*\r\nconnection: close\r\n\r\n"
    )
    assert wish_of(b"CONNECT pypi.org:443 HTTP/1.1\r\nhost: x\r\n\r\n").is_tunnel


@pytest.mark.parametrize(
    "line",
    [
        *("CONNECT pypi.org HTTP/1.1", "CONNECT [::1]:443 HTTP/1.1", "CONNECT pypi.org:99999 HTTP/1.1"),
        *("CONNECT a@pypi.org:443 HTTP/1.1", "GET / HTTP/1.1", "GET http://a@b.test/ HTTP/1.1"),
        *("GET https://pypi.org/ HTTP/1.1", "GET http:///x HTTP/1.1", "GET http://[::1]/ HTTP/1.1"),
        *("get http://pypi.org/ HTTP/1.1", "GET http://pypi.org/ HTTP/2", "CONNECT pypi.org:0 HTTP/1.1", ""),
        *("GET http://pypi.org/ HTTP/1.1\r\n folded: x", "GET http://pypi.org\\@evil.test/ HTTP/1.1"),
    ],
)
def test_a_head_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(BadHeadError):
        wish_of(f"{line}\r\n\r\n".encode())


class Asked:
    """A proxy before a server that repeats what it is told; `host` stands for it."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.proxy = proxy
        self._port = port

    async def ask(self, words: bytes) -> bytes:
        """All that comes back."""
        reader, writer = await self.opened()
        writer.write(words)
        writer.write_eof()
        said = await rest(reader)
        writer.close()
        return said

    async def opened(self) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self._port)


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the other side has ended it, in whatever way."""
    said = b""
    with suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            while piece := await reader.read(65_536):
                said += piece
    return said


async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def asking(**fields: Any) -> AsyncIterator[Asked]:
    there = await asyncio.start_server(repeat, "127.0.0.1", 0)

    async def resolve(_: str, __: int) -> Sequence[str]:
        return [PUBLIC]

    async def connect(address: str, _: int) -> Streams:
        assert address == PUBLIC
        return await asyncio.open_connection(*there.sockets[0].getsockname())

    dialer = Dialer(resolve, connect)
    settings = msgspec.structs.replace(LISTED, **fields)
    proxy = Proxy("agent", dialer, lambda _: settings)
    here = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=MOST_HEAD)
    try:
        yield Asked(proxy, here.sockets[0].getsockname()[1])
    finally:
        proxy.close()
        here.close()
        there.close()
        dialer.close()
        await asyncio.sleep(0)


async def test_a_tunnel_passes_on_what_is_said_both_ways() -> None:
    async with asking() as proxy:
        said = await proxy.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n" + b"x" * 500_000)
    head, _, rest = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert rest == b"x" * 500_000


async def test_refusals_are_answered_logged_once_and_counted() -> None:
    with capture_logs() as logs:
        async with asking() as proxy:
            for _ in range(3):
                said = await proxy.ask(b"CONNECT evil.test:443 HTTP/1.1\r\n\r\n")
                assert said.startswith(b"HTTP/1.1 403 ")
                assert b"evil.test:443 is refused: it is not among agent_hosts" in said
            assert (await proxy.ask(b"x" * 40_000)).startswith(b"HTTP/1.1 400 ")
            assert (await proxy.ask(b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
            assert await proxy.ask(b"GET http://") == b""
    refused = [entry for entry in logs if entry["event"] == "egress_refused"]
    assert [entry["host"] for entry in refused] == ["evil.test", "", ""]
    (metered,) = [entry for entry in logs if entry["event"] == "egress_metered"]
    assert (metered["connections"], metered["refused"]) == (0, 5)


async def test_a_process_moves_no_more_bytes_than_it_may() -> None:
    async with asking(agent_transfer_bytes=100_000) as proxy:
        said = await proxy.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n" + b"x" * 1_000_000)
        assert len(said) < 200_000
        assert b"agent_transfer_bytes" in await proxy.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")


async def test_a_process_has_so_many_connections_and_silent_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxying, "_MOST_CONNECTIONS", 2)
    monkeypatch.setattr(proxying, "_IDLE_S", 0.3)
    monkeypatch.setattr(proxying, "_HEAD_S", 0.3)
    async with asking() as proxy:
        silent, tunnel = await proxy.opened(), await proxy.opened()
        tunnel[1].write(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
        assert b"200" in await tunnel[0].readline()
        assert (await proxy.ask(b"")).startswith(b"HTTP/1.1 503 ")
        assert await rest(silent[0]) == b""
        await rest(tunnel[0])
        assert b"200" in await proxy.ask(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
        for _, writer in (silent, tunnel):
            writer.close()


async def test_what_is_open_ends_with_the_process() -> None:
    async with asking() as proxy:
        reader, writer = await proxy.opened()
        writer.write(b"CONNECT pypi.org:443 HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        proxy.proxy.close()
        assert await rest(reader) == b""
        writer.close()


async def test_a_way_that_is_handed_over_is_served_and_one_that_is_not_ends() -> None:
    way = Way(Proxy("agent", Dialer(), lambda _: LISTED))
    launch = Launch(
        argv=(),
        cwd=Path("/"),
        env={"HTTPS_PROXY": "http://the-hosts-own"},
        marker="",
        scratch=Path("/"),
        model=None,
        options=LaunchOptions(),
        is_mirrored=True,
    )
    opened = way.open_for(launch)
    assert opened.exit is not None
    assert opened.env["HTTPS_PROXY"] == opened.env["http_proxy"] == f"http://127.0.0.1:{listening.PORT}"
    with capture_logs() as logs:
        way.begin()  # nobody else has its other end
        assert way._task is not None
        await asyncio.wait_for(way._task, 20)
    assert logs[0]["event"] == "egress_not_opened"
    way.close()
    way.close()
    never_begun = Way(Proxy("agent", Dialer(), lambda _: LISTED))
    never_begun.close()
