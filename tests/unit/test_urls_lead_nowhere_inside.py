"""A client's URL leads to the internet or nowhere: not to this host, not to its networks."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from api.media.fetch import Fetcher
from api.media.load import Media, MediaRefusedError, WantedImage
from api.media.sources import MediaError, Remote
from shared.addresses import is_allowed
from shared.settings import Settings
from tests.support.media import answer, png, web_server

PUBLIC = "93.184.215.14"

PUBLIC_ADDRESSES = ["1.1.1.1", PUBLIC, "172.15.0.1", "2606:4700:4700::1111", "2a00:1450:4001::1"]
PRIVATE_ADDRESSES = ["127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "::1", "fd00::1"]
ADDRESSES_OF_NOBODY = [
    "0.0.0.0",
    "0.1.2.3",
    "100.64.0.1",  # carriers' NAT
    "169.254.169.254",  # clouds' metadata
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:1.1.1.1",
    "64:ff9b::7f00:1",
    "64:ff9b::101:101",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::1",  # Teredo
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4
    "2002:101:101::1",
    "3fff::1",
    "5f00::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%eth0",
    "fec0::1",
    "ff02::1",
    "",
    "localhost",
]


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_addresses_are_allowed(address: str) -> None:
    assert is_allowed(address, with_private=False)


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_addresses_are_allowed_only_on_demand(address: str) -> None:
    assert not is_allowed(address, with_private=False)
    assert is_allowed(address, with_private=True)


@pytest.mark.parametrize("address", ADDRESSES_OF_NOBODY)
def test_other_addresses_are_never_allowed(address: str) -> None:
    assert not is_allowed(address, with_private=False)
    assert not is_allowed(address, with_private=True)


class Net:
    """Names with the addresses of each look-up, the last one again and again; what was asked of whom."""

    def __init__(self, **names: Sequence[Sequence[str]]) -> None:
        self.names = {name.replace("_", "."): list(answers) for name, answers in names.items()}
        self.pages: dict[str, httpx.Response] = {}
        self.dead: set[str] = set()
        self.looked_up: list[str] = []
        self.requests: list[httpx.Request] = []

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.looked_up.append(host)
        answers = self.names.get(host, [])
        if not answers:
            raise socket.gaierror(f"no address for {host} on 10.0.0.53")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def serve(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.host in self.dead:
            raise httpx.ConnectError(f"no route to {request.url.host}")
        return self.pages[request.headers["host"] + request.url.raw_path.decode()]

    async def fetch(self, url: str, limit: int = 1000) -> bytes:
        fetcher = Fetcher(with_private=False, transport=httpx.MockTransport(self.serve), resolve=self.resolve)
        try:
            return await fetcher.fetch(url, limit)
        finally:
            await fetcher.aclose()

    async def refusal(self, url: str) -> str:
        with pytest.raises(MediaError) as refused:
            await self.fetch(url)
        said = str(refused.value)
        assert not any(digit in said for digit in "0456789"), f"it tells of an address: {said}"
        return said


NOT_PUBLIC = "Its URL's host has no public address."


async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    net = Net(a_example=[[PUBLIC], ["127.0.0.1"]])
    net.pages["a.example:8443/x?y=z"] = httpx.Response(200, stream=httpx.ByteStream(b"body"))
    assert await net.fetch("https://a.example:8443/x?y=z") == b"body"
    (request,) = net.requests
    assert net.looked_up == ["a.example"]
    assert str(request.url) == f"https://{PUBLIC}:8443/x?y=z"
    assert request.headers["host"] == "a.example:8443"
    assert request.extensions["sni_hostname"] == "a.example"
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & request.headers.keys()


@pytest.mark.parametrize("address", [*PRIVATE_ADDRESSES, *ADDRESSES_OF_NOBODY])
async def test_a_name_with_any_address_inside_is_refused_before_a_connection(address: str) -> None:
    net = Net(a_example=[[PUBLIC, address]])
    assert await net.refusal("http://a.example/") == NOT_PUBLIC
    assert net.requests == []


async def test_an_unknown_name_and_one_inside_are_refused_alike() -> None:
    net = Net(inside_example=[["10.0.0.1"]])
    assert await net.refusal("http://inside.example/") == await net.refusal("http://unknown.example/")


@pytest.mark.parametrize(
    "url", ["http://127.1/", "http://2130706433/", "http://0x7f.1/", "http://[::1]:80/", "http://0/"]
)
async def test_odd_ways_to_write_loopback_are_loopback(url: str) -> None:
    fetcher = Fetcher(with_private=False)
    with pytest.raises(MediaError, match=NOT_PUBLIC):
        await fetcher.fetch(url, 10)
    await fetcher.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_checked_like_the_first_url(status: int) -> None:
    net = Net(a_example=[[PUBLIC]], b_example=[["192.168.0.1"]])
    for target in ("http://b.example/x", "//b.example/x"):
        net.pages["a.example/"] = httpx.Response(status, headers={"location": target})
        assert await net.refusal("http://a.example/") == NOT_PUBLIC
    assert {request.url.host for request in net.requests} == {PUBLIC}


async def test_a_name_that_moves_inside_between_redirects_is_refused() -> None:
    net = Net(a_example=[[PUBLIC], ["127.0.0.1"]])
    net.pages["a.example/"] = httpx.Response(302, headers={"location": "/x"})
    assert await net.refusal("http://a.example/") == NOT_PUBLIC
    assert len(net.requests) == 1


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://a.example/", "data:,x", "http://u:p@a.example/", "http://[/"]
)
async def test_a_redirect_leads_only_to_plain_urls(target: str) -> None:
    net = Net(a_example=[[PUBLIC]])
    net.pages["a.example/"] = httpx.Response(302, headers={"location": target})
    assert "URL" in await net.refusal("http://a.example/")
    assert len(net.requests) == 1


async def test_three_redirects_are_followed_and_no_more() -> None:
    net = Net(a_example=[[PUBLIC]])
    for step in range(4):
        net.pages[f"a.example/{step}"] = httpx.Response(302, headers={"location": str(step + 1)})
    net.pages["a.example/4"] = httpx.Response(200, stream=httpx.ByteStream(b"end"))
    assert await net.fetch("http://a.example/1") == b"end"
    assert "more than 3 redirects" in await net.refusal("http://a.example/0")


async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    net = Net(a_example=[["2606:4700::1", PUBLIC]])
    net.pages["a.example/"] = httpx.Response(200, stream=httpx.ByteStream(b"body"))
    net.dead = {"2606:4700::1"}
    assert await net.fetch("http://a.example/") == b"body"
    net.dead.add(PUBLIC)
    assert await net.refusal("http://a.example/") == "Its URL could not be reached."


@pytest.mark.parametrize(
    "url",
    [
        "http://u@a.example/",
        "http://u:p@a.example/",
        "http:///x",
        "http://",
        "http://a b/",
        "http://a.example:99999/",
        "http://a.example:0/",
    ],
)
async def test_urls_that_are_none_or_hold_credentials_are_refused(url: str) -> None:
    net = Net(a_example=[[PUBLIC]])
    await net.refusal(url)
    assert net.requests == []


@given(st.text() | st.text(alphabet="ahtp:/[]@.%1f\r\n\0#?", max_size=20).map("http://".__add__))
async def test_any_text_is_fetched_or_refused(url: str) -> None:
    fetcher = Fetcher(with_private=False, resolve=Net().resolve)
    with pytest.raises(MediaError):
        await fetcher.fetch(url, 10)
    await fetcher.aclose()


async def test_compressed_content_is_refused() -> None:
    async with web_server(lambda _: answer(b"\x1f\x8b", "Content-Encoding: gzip")) as url, local() as fetcher:
        with pytest.raises(MediaError, match="compressed"):
            await fetcher.fetch(url, 1000)


@asynccontextmanager
async def local() -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(with_private=True)
    yield fetcher
    await fetcher.aclose()


async def test_a_body_is_cut_off_at_the_limit_whatever_its_length_is_said_to_be() -> None:
    pages = {
        "/exact": answer(b"x" * 100),
        "/more": answer(b"x" * 101),
        "/lies": answer(b"x" * 1_000_000, "Transfer-Encoding: identity"),
        "/chunked": answer(b"64\r\n" + b"x" * 100 + b"\r\n64\r\n" + b"x" * 100, "Transfer-Encoding: chunked"),
    }
    async with web_server(pages.__getitem__) as url, local() as fetcher:
        assert await fetcher.fetch(f"{url}/exact", 100) == b"x" * 100
        for page in ("/more", "/chunked"):
            with pytest.raises(MediaError, match="larger than 100 bytes"):
                await fetcher.fetch(url + page, 100)
        with pytest.raises(MediaError):
            await fetcher.fetch(f"{url}/lies", 100)


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        answer(b"", status="404 Not Found"),
        answer(b"", status="302 Found"),
        answer(b"", status="206 Partial Content"),
    ],
)
async def test_a_broken_answer_is_refused(said: bytes) -> None:
    async with web_server(lambda _: said) as url, local() as fetcher:
        with pytest.raises(MediaError, match="URL"):
            await fetcher.fetch(url, 100)


async def test_the_environments_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with web_server(lambda _: answer(b"body")) as url, local() as fetcher:
        assert await fetcher.fetch(url, 100) == b"body"


async def test_a_silent_server_is_given_up() -> None:
    settings = Settings(fetch_timeout_s=0.3)
    async with (
        web_server(lambda path: b"" if path == "/silent" else answer(png())) as url,
        local() as fetcher,
    ):
        wanted = {"b": WantedImage(Remote(url)), "a": WantedImage(Remote(f"{url}/silent"))}
        with pytest.raises(MediaRefusedError) as refused:
            await Media(fetcher, settings).load(wanted)
    assert (refused.value.place, str(refused.value)) == ("a", "It did not come within 0.3 seconds.")


@pytest.mark.parametrize(("certified", "is_good"), [("a.example", True), ("b.example", False)])
async def test_a_certificate_must_be_the_hosts_although_the_connection_is_to_an_address(
    certified: str, is_good: bool
) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(certified).configure_cert(server)
    authority.configure_trust(client)
    net = Net(a_example=[["127.0.0.1"]])
    transport = httpx.AsyncHTTPTransport(verify=client, trust_env=False)
    fetcher = Fetcher(with_private=True, transport=transport, resolve=net.resolve)
    async with web_server(lambda _: answer(b"body"), tls=server) as url:
        target = url.replace("127.0.0.1", "a.example")
        if is_good:
            assert await fetcher.fetch(target, 100) == b"body"
        else:
            with pytest.raises(MediaError, match="could not be reached"):
                await fetcher.fetch(target, 100)
    await fetcher.aclose()
