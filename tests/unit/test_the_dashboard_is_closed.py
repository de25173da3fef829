"""The pages ask for a key like everything else, and change nothing for a page that is not ours."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from arq.connections import ArqRedis

from api.browser_sessions import COOKIE, token_of
from api.dashboard.routes import PAGES
from shared.keys import Grant, KeyStore
from tests.unit.support import Valkey
from tests.unit.support_api import announce, serving

ROOT = Path(__file__).resolve().parents[2]
OPEN = {"/login"}
ADMINS = {"/", "/feed", "/series", "/playground", "/workers", "/dead", "/keys"}
"""Pages for which a key that may only read is not enough."""
PARAMETERS = {"worker_id": "w", "session_id": "s" * 12, "batch_id": "b", "key_id": "k", "run_id": "run_1"}


class Route(NamedTuple):
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def url(self) -> str:
        return "/dashboard" + re.sub(r"{(\w+):\w+}", lambda match: PARAMETERS[match[1]], self.path)


def routes() -> Iterator[Route]:
    for handler in PAGES:
        for path in handler.paths:
            yield from (Route(str(method), path) for method in handler.http_methods if method != "OPTIONS")


CLOSED = [route for route in routes() if route.path not in OPEN]
POSTS = [route for route in routes() if route.method == "POST"]


@asynccontextmanager
async def asked(
    redis: ArqRedis, valkey: Valkey, *scopes: str
) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """An API that asks for keys, and a key with these scopes."""
    await announce(redis)
    _, secret = await KeyStore(redis).create(Grant(scopes=scopes or ("admin",)))  # type: ignore[arg-type]
    async with serving(valkey.url, auth="on") as api:
        api.headers["accept"] = "text/html"
        yield api, secret


async def token(api: httpx.AsyncClient) -> str:
    """What the page that is open sends with a change."""
    await api.get("/dashboard/login")
    return token_of(api.cookies[COOKIE])


async def log_in(api: httpx.AsyncClient, secret: str) -> httpx.Response:
    return await api.post("/dashboard/login", data={"key": secret, "csrf": await token(api)})


async def test_without_a_log_in_no_page_opens(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey) as (api, _):
        for route in CLOSED:
            html = await api.request(route.method, route.url)
            where = html.headers["location"].split("?")[0]
            assert (html.status_code, where) == (303, "/dashboard/login"), route
            other = await api.request(route.method, route.url, headers={"accept": "text/event-stream"})
            assert other.status_code == 401, route


async def test_a_key_that_only_reads_changes_nothing(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "read") as (api, secret):
        assert (await log_in(api, secret)).status_code == 303
        headers = {"x-csrf-token": token_of(api.cookies[COOKIE])}
        for route in CLOSED:
            if route.path == "/logout":
                continue
            status = (await api.request(route.method, route.url, headers=headers)).status_code
            is_closed = route.method == "POST" or route.path in ADMINS
            assert (status == 403) is is_closed, route


async def test_no_change_without_the_token(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "run", "read", "admin") as (api, secret):
        assert (await log_in(api, secret)).status_code == 303
        for route in POSTS:
            for wrong in ("", "x", token_of("other")):
                answer = await api.post(route.url, data={"csrf": wrong, "key": secret})
                assert answer.status_code == 403, route
                assert (await api.post(route.url, headers={"x-csrf-token": wrong})).status_code == 403, route
        assert len(await KeyStore(redis).all()) == 1


async def test_the_cookie_alone_changes_nothing_below_v1(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "run", "read", "admin") as (api, secret):
        await log_in(api, secret)
        assert (await api.get("/v1/models")).status_code == 200
        body = {"name": "more"}
        assert (await api.post("/v1/admin/keys", json=body)).status_code == 403
        headers = {"x-csrf-token": token_of(api.cookies[COOKIE])}
        assert (await api.post("/v1/admin/keys", json=body, headers=headers)).status_code == 200


async def test_without_keys_the_token_is_asked_for_all_the_same(redis: ArqRedis, valkey: Valkey) -> None:
    await announce(redis)
    async with serving(valkey.url) as api:
        assert (await api.post("/dashboard/keys", data={"name": "x", "scopes": "read"})).status_code == 403
        assert (await api.get("/dashboard")).status_code == 200
        assert (await api.get("/dashboard/login")).headers["location"] == "/dashboard"
        data = {"name": "x", "scopes": ["admin"], "csrf": token_of(api.cookies[COOKIE])}
        made = await api.post("/dashboard/keys", data=data)
        assert made.status_code == 200
        assert "bl_" in made.text


async def test_pages_are_not_kept_and_run_no_foreign_script(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "run", "read", "admin") as (api, secret):
        await log_in(api, secret)
        for path in (
            "",
            "/playground",
            "/runs",
            "/workers",
            "/agents",
            "/sessions",
            "/batches",
            "/dead",
            "/keys",
            "/login",
        ):
            page = await api.get(f"/dashboard{path}")
            assert page.status_code == 200, path
            assert page.headers["cache-control"] == "no-store"
            policy = page.headers["content-security-policy"]
            assert "script-src 'self';" in policy
            assert "unsafe" not in policy
            assert not re.search(r"\son\w+=|style=|<script>|javascript:", page.text)
            assert "//" not in re.sub(r"<!.*?>", "", page.text).replace("http://www.w3.org", "")


async def test_files_of_pages_are_kept_by_browsers_until_they_change(redis: ArqRedis, valkey: Valkey) -> None:
    await announce(redis)
    async with serving(valkey.url) as api:
        page = (await api.get("/dashboard")).text
        places = set(re.findall(r'(?:src|href)="(/dashboard/static/[^"]+)"', page))
        assert {Path(place).name for place in places} >= {
            "dashboard.css",
            "live.js",
            "overview.js",
            "icon.svg",
        }
        for place in places:
            file = await api.get(place)
            assert file.status_code == 200, place
            assert file.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert file.headers["content-type"].split(";")[0] in {
                "text/css",
                "text/javascript",
                "image/svg+xml",
            }
            assert "set-cookie" not in file.headers
            version, name = place.split("/")[3], place.split("/", 4)[4]
            local = ROOT / "api/dashboard/static" / name
            assert file.content == local.read_bytes()
            # An API of another version asks for its own: what is here is not to stand for that.
            other = await api.get(place.replace(version, "0" * 16))
            assert (other.status_code, other.headers["cache-control"]) == (200, "no-store")
        for wrong in ("nothing.js", "../agents.py", "..%2fagents.py", "vendor", "vendor/VENDORED", ""):
            assert (await api.get(f"/dashboard/static/{version}/{wrong}")).status_code == 404, wrong


async def test_a_session_is_kept_by_its_hash_and_ends_with_its_key(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "read", "admin") as (api, secret):
        answer = await log_in(api, secret)
        said = answer.headers["set-cookie"].lower()
        assert "httponly" in said
        assert "samesite=strict" in said
        cookie = api.cookies[COOKIE]
        names = [name.decode() async for name in redis.scan_iter("backline:browser-session:*")]
        assert names == [f"backline:browser-session:{sha256(cookie.encode()).hexdigest()}"]
        assert await redis.ttl(names[0]) > 0
        assert secret.encode() not in (await redis.get(names[0]) or b"")
        keys = KeyStore(redis)
        (record,) = await keys.all()
        await keys.rotate(record.id, overlap_s=60)
        assert (await api.get("/dashboard/keys")).status_code == 200
        await keys.revoke(record.id)
        assert (await api.get("/dashboard/keys")).status_code == 303


async def test_a_log_in_gives_another_cookie_and_a_log_out_ends_it(redis: ArqRedis, valkey: Valkey) -> None:
    async with asked(redis, valkey, "read") as (api, secret):
        await token(api)
        before = api.cookies[COOKIE]
        await log_in(api, secret)
        cookie = api.cookies[COOKIE]
        assert cookie != before
        await api.post("/dashboard/logout", data={"csrf": token_of(cookie)})
        answer = await api.get("/dashboard/agents", headers={"cookie": f"{COOKIE}={cookie}"})
        assert answer.status_code == 303


@pytest.mark.parametrize(
    "place", ["https://evil.example", "//evil.example", "/dashboard\\x", "/dashboardx", "/v1"]
)
async def test_a_log_in_leads_to_no_other_place(redis: ArqRedis, valkey: Valkey, place: str) -> None:
    async with asked(redis, valkey, "read") as (api, secret):
        data = {"key": secret, "csrf": await token(api)}
        answer = await api.post("/dashboard/login", params={"next": place}, data=data)
        assert answer.headers["location"] == "/dashboard/runs"
        data["csrf"] = token_of(api.cookies[COOKIE])
        answer = await api.post("/dashboard/login", params={"next": "/dashboard/keys?a=1"}, data=data)
        assert answer.headers["location"] == "/dashboard/keys?a=1"


def test_what_is_vendored_is_what_was_published() -> None:
    for folder in ("api/dashboard/static/vendor", "tests/browser/vendor"):
        said = (ROOT / folder / "VENDORED").read_text("utf-8")
        recorded = {
            name: digest for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", said, re.MULTILINE)
        }
        files = {path.name: path for path in (ROOT / folder).iterdir() if path.suffix in {".js", ".css"}}
        assert recorded == {name: sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
