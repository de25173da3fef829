"""What a browser may do with our answers: not run, frame or keep them; and which pages may read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from arq.connections import ArqRedis
from litestar.handlers import HTTPRouteHandler

from api.routes import ROUTES
from api.safe_headers import SAFE_HEADERS
from shared.keys import Grant, KeyStore
from shared.settings import Settings
from tests.unit.support import Valkey
from tests.unit.support_api import announce, bearer, make_app, serving

PAGE = "https://chat.example"
NAMES = [name.decode() for name, _ in SAFE_HEADERS]
ALLOW = "access-control-allow-origin"
ENDLESS = "/dashboard/feed"
EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def routes() -> list[tuple[str, str]]:
    """Every route there is, whether it is in the OpenAPI document or not."""
    app = make_app("redis://127.0.0.1:1")
    return sorted(
        (method, route.path_format.replace("{", "").replace("}", ""))
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if isinstance(handler, HTTPRouteHandler)
        for method in handler.http_methods
    )


def check(answer: httpx.Response) -> None:
    path = str(answer.request.url.path)
    is_page = path.startswith("/dashboard") and "referrer-policy" in answer.headers
    assert set(NAMES) <= answer.headers.keys()
    for name, value in EVERYWHERE.items():
        # A page's own forms tell where they come from.
        own = "same-origin" if is_page and name == "referrer-policy" else value
        assert answer.headers.get_list(name) in ([value], [own])
    policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy or "html" in answer.headers["content-type"]
    assert "script-src" not in policy.replace("script-src 'self';", ""), "a page's scripts are its own files"
    if answer.headers.get("cache-control") != "no-store":
        assert path.startswith(("/docs/static", "/dashboard/static")), answer.request.url


@pytest.mark.parametrize("has_key", [False, True])
async def test_every_route_answers_safely(
    redis: ArqRedis, valkey: Valkey, tmp_path: Path, *, has_key: bool
) -> None:
    await announce(redis)
    _, secret = await KeyStore(redis).create(Grant(scopes=("run", "read", "admin")))
    assert len(routes()) > len(ROUTES), "methods of each path"
    async with serving(valkey.url, data_dir=tmp_path) as api:
        seen = set()
        for method, path in routes():
            if path == ENDLESS and has_key:
                continue
            answer = await api.request(method, path, headers=bearer(secret) if has_key else {})
            check(answer)
            seen.add(answer.status_code)
        assert seen >= ({200, 400, 404} if has_key else {200, 401})
        for answer in (
            await api.get("/nowhere"),
            await api.put("/v1/models"),
            await api.get("/health", headers={"host": "evil.example"}),
            await api.get("/health", headers={"origin": "https://evil.example"}),
            await api.get("/docs/static/docs.js"),
            await api.get("/docs"),
        ):
            check(answer)


async def test_a_failure_of_ours_answers_safely(valkey: Valkey) -> None:
    async with serving("redis://127.0.0.1:1", auth="off") as api:
        answer = await api.get("/v1/models")
    assert answer.status_code == 503
    check(answer)


async def test_no_page_is_let_in_by_default(redis: ArqRedis, valkey: Valkey) -> None:
    await announce(redis)
    async with serving(valkey.url) as api:
        for headers in ({"origin": PAGE}, {"origin": "null"}, {"origin": "http://127.0.0.1.evil.example"}):
            asked = await api.options(
                "/v1/chat/completions", headers={**headers, "access-control-request-method": "POST"}
            )
            told = await api.get("/v1/models", headers=headers)
            assert asked.status_code == told.status_code == 403
            for answer in (asked, told):
                assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_named_page_may_ask_with_a_key_and_never_with_cookies(
    redis: ArqRedis, valkey: Valkey
) -> None:
    await announce(redis)
    _, secret = await KeyStore(redis).create(Grant())
    page = {"origin": PAGE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    async with serving(valkey.url, allowed_origins=(PAGE,)) as api:
        wish = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-stainless-lang",
        }
        asked = await api.options("/v1/chat/completions", headers={**page, **wish})
        assert (asked.status_code, asked.headers[ALLOW]) == (204, PAGE)
        assert "authorization" in asked.headers["access-control-allow-headers"].lower()
        assert "POST" in asked.headers["access-control-allow-methods"]
        told = await api.get("/v1/models", headers={**page, **bearer(secret)})
        refused = await api.get("/v1/models", headers=page)
        missing = await api.get("/v1/nowhere", headers={**page, **bearer(secret)})
        assert (told.status_code, refused.status_code, missing.status_code) == (200, 401, 404)
        for answer in (asked, told, refused, missing):
            assert answer.headers.get_list(ALLOW) == [PAGE], "the page must learn what went wrong, too"
            assert "access-control-allow-credentials" not in answer.headers
            assert answer.headers["vary"] == "Origin"
        assert "x-request-id" in told.headers["access-control-expose-headers"].lower()
        assert (await api.get("/v1/models", headers=bearer(secret))).headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://chat.example.evil.example",
        "https://chatXexample",
        "http://chat.example",
        "https://chat.example:8443",
        "https://CHAT.example",
        "https://chat.example/",
        "https://evil.example/https://chat.example",
        "null",
        "*",
        "",
    ],
)
async def test_no_other_page_passes_for_it(redis: ArqRedis, valkey: Valkey, origin: str) -> None:
    await announce(redis)
    headers = {"origin": origin, "access-control-request-method": "POST"}
    async with serving(valkey.url, allowed_origins=(PAGE,)) as api:
        for answer in (
            await api.options("/v1/chat/completions", headers=headers),
            await api.get("/v1/models", headers=headers),
        ):
            assert answer.status_code == 403
            assert ALLOW not in answer.headers


@pytest.mark.parametrize("entry", ["*", "https://*.example", "chat.example", "https://chat.example/", "null"])
def test_a_pattern_or_a_slip_is_no_origin(entry: str) -> None:
    said: Any = {"allowed_origins": [entry]}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(said, Settings)
