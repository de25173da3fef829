from __future__ import annotations

from typing import Any

import pytest
from arq.connections import ArqRedis
from litestar.handlers import HTTPRouteHandler

from api.access import NEEDS
from api.exposure import OpenToAllError, require_keys
from api.keyring import Keyring
from api.throttle import Throttle
from shared import redis_keys
from shared.keys import Grant, KeyStore, UnknownKeyError, new_secret
from shared.settings import Settings
from tests.unit.support import Valkey, running, until
from tests.unit.support_api import announce, bearer, error_of, make_app, serving


@pytest.fixture
def keys(redis: ArqRedis) -> KeyStore:
    return KeyStore(redis)


def handlers() -> list[HTTPRouteHandler]:
    app = make_app("redis://127.0.0.1:1")
    return [
        handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", [])
        if not getattr(handler, "http_methods", {"OPTIONS"}) <= {"OPTIONS"}
    ]


@pytest.mark.parametrize("handler", handlers(), ids=str)
def test_a_route_says_what_it_needs(handler: HTTPRouteHandler) -> None:
    assert handler.opt.get(NEEDS) in {"open", "any", "run", "read", "admin", "metrics"}, sorted(handler.paths)


def test_only_health_and_documents_are_open() -> None:
    opened = {path for handler in handlers() if handler.opt.get(NEEDS) == "open" for path in handler.paths}
    assert not [path for path in opened if path.startswith("/v1/")]


async def test_without_a_key_everything_is_open_until_there_is_one(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore
) -> None:
    await announce(redis)
    async with serving(valkey.url) as api:
        assert (await api.get("/v1/models")).status_code == 200
        _, secret = await keys.create(Grant())

        async def is_shut() -> bool:
            return (await api.get("/v1/models")).status_code == 401

        await until(is_shut, "a key is needed")
        assert (await api.get("/v1/models", headers=bearer(secret))).status_code == 200
        for path in ("/health", "/ready", "/docs", "/openapi.json"):
            assert (await api.get(path)).status_code == 200


async def test_a_key_for_some_agents_is_told_of_no_others_being_ready(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore
) -> None:
    await announce(redis)
    _, all_of_them = await keys.create(Grant())
    _, some = await keys.create(Grant(agents=("elsewhere",)))
    async with serving(valkey.url) as api:
        for secret, is_told in ((all_of_them, True), (some, False)):
            ready = await api.get("/ready", headers=bearer(secret))
            assert ready.status_code == 200
            assert bool(ready.json()["agents"]) is is_told


async def test_a_key_comes_in_by_either_header(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis)
    _, secret = await keys.create(Grant())
    async with serving(valkey.url) as api:
        for headers in (bearer(secret), {"x-api-key": secret}, {"authorization": f"bearer {secret}"}):
            assert (await api.get("/v1/models", headers=headers)).status_code == 200
        for headers in ({}, bearer("bl_wrong"), {"x-api-key": secret[:-1]}, {"authorization": secret}):
            answer = await api.get("/v1/models", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert error_of(answer)["code"] == "invalid_api_key"
            assert "bl_wrong" not in answer.text


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_key_in_query_or_body_needs_the_setting(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore, is_allowed: bool
) -> None:
    await announce(redis)
    _, secret = await keys.create(Grant())
    async with serving(valkey.url, keys_in_requests=is_allowed) as api:
        status = 200 if is_allowed else 401
        assert (await api.get("/v1/models", params={"api_key": secret})).status_code == status
        made = await api.post("/v1/conversations", json={"api_key": secret, "metadata": {"a": "b"}})
        assert made.status_code == status
        assert (await api.post("/v1/conversations", json={"api_key": "bl_wrong"})).status_code == 401


async def test_a_key_does_what_its_scopes_say(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis)
    _, reads = await keys.create(Grant(scopes=("read",)))
    _, runs = await keys.create(Grant(scopes=("run",)))
    async with serving(valkey.url) as api:
        assert (await api.get("/v1/models", headers=bearer(reads))).status_code == 200
        refused = await api.post("/v1/conversations", headers=bearer(reads), json={})
        assert refused.status_code == 403
        assert error_of(refused)["code"] == "insufficient_permissions"
        assert (await api.post("/v1/conversations", headers=bearer(runs), json={})).status_code == 200
        assert (await api.get("/v1/models", headers=bearer(runs))).status_code == 403


async def test_an_agent_of_others_is_not_there(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis)
    _, secret = await keys.create(Grant(agents=("other",)))
    async with serving(valkey.url, default_agent="agent") as api:
        listed = (await api.get("/v1/models", headers=bearer(secret))).json()["data"]
        assert [model["id"] for model in listed if model["owned_by"] != "anthropic"] == ["other"]
        hidden = await api.get("/v1/models/agent", headers=bearer(secret))
        missing = await api.get("/v1/models/absent", headers=bearer(secret))
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace("'agent'", "'absent'") == missing.text
        asked: dict[str, Any] = {"model": "agent", "messages": [{"role": "user", "content": "Hi"}]}
        answer = await api.post("/v1/chat/completions", headers=bearer(secret), json=asked)
        assert (answer.status_code, error_of(answer)["code"]) == (404, "model_not_found")


async def test_a_key_widens_what_requests_may(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    await announce(redis, ())
    _, plain = await keys.create(Grant())
    _, wide = await keys.create(Grant(may=("permissions",)))
    options = {"permission_mode": "bypassPermissions"}
    asked = {"model": "agent", "messages": [{"role": "user", "content": "Hi"}], "claude_options": options}
    await announce(redis, ("agent",))
    async with serving(valkey.url, client_may=()) as api:
        refused = await api.post("/v1/chat/completions", headers=bearer(plain), json=asked)
        assert error_of(refused)["param"] == "claude_options.permission_mode"
        options["working_dir"] = "/"  # looked at after rights, and refused before anything runs
        answer = await api.post("/v1/chat/completions", headers=bearer(wide), json=asked)
        assert error_of(answer)["param"] == "claude_options.working_dir"


async def test_a_revoked_key_is_refused_by_every_replica_although_no_message_comes(
    redis: ArqRedis, keys: KeyStore
) -> None:
    record, secret = await keys.create(Grant())
    deaf, hearing = Keyring(redis, keys, []), Keyring(redis, keys, [])
    async with running(hearing.run()):
        assert await deaf.find(secret) == await hearing.find(secret) == record
        await keys.revoke(record.id)

        async def are_refused() -> bool:
            return [await ring.find(secret) for ring in (deaf, hearing)] == [None, None]

        await until(are_refused, "no replica takes the key")
    with pytest.raises(UnknownKeyError):
        await keys.rotate(record.id, overlap_s=60)


async def test_both_secrets_are_good_during_a_rotation(redis: ArqRedis, keys: KeyStore) -> None:
    record, first = await keys.create(Grant())
    _, second = await keys.rotate(record.id, overlap_s=60)
    keyring = Keyring(redis, keys, [])
    for secret in (first, second):
        found = await keyring.find(secret)
        assert found is not None
        assert found.id == record.id
    _, third = await keys.rotate(record.id, overlap_s=0)
    fresh = Keyring(redis, keys, [])
    assert [await fresh.find(secret) is not None for secret in (first, second, third)] == [False, False, True]


async def test_a_key_lapses(redis: ArqRedis, keys: KeyStore) -> None:
    record, _ = await keys.create(Grant(expires_in_s=100))
    assert record.is_good(record.hash, record.created + 99)
    assert not record.is_good(record.hash, record.created + 100)


async def test_a_secret_stands_nowhere_in_redis(redis: ArqRedis, keys: KeyStore) -> None:
    record, secret = await keys.create(Grant(name="canary"))
    _, second = await keys.rotate(record.id, overlap_s=60)
    dumped = b""
    for name in await redis.keys("*"):
        content: Any = redis.hgetall(name)
        dumped += name + repr(await content).encode()
    for each in (secret, second):
        assert not [each[i : i + 8] for i in range(len(each) - 8) if each[i : i + 8].encode() in dumped]


async def test_the_last_key_that_goes_opens_nothing(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    record, _ = await keys.create(Grant())
    await keys.revoke(record.id)
    async with serving(valkey.url) as api:
        assert (await api.get("/v1/models")).status_code == 401


async def test_a_redis_that_lost_its_keys_opens_nothing(redis: ArqRedis, keys: KeyStore) -> None:
    await keys.create(Grant())
    keyring = Keyring(redis, keys, [])
    assert await keyring.has_keys()
    await redis.delete(redis_keys.KEYS)
    assert await keyring.has_keys()


async def test_beyond_loopback_there_must_be_a_key(redis: ArqRedis, valkey: Valkey, keys: KeyStore) -> None:
    outside = Settings(redis_url=valkey.url, host="0.0.0.0")
    await require_keys(Settings(redis_url=valkey.url))
    with pytest.raises(OpenToAllError, match="backline keys create"):
        await require_keys(outside)
    with pytest.raises(OpenToAllError, match="auth=off"):
        await require_keys(Settings(redis_url=valkey.url, host="10.0.0.1", auth="off"))
    await require_keys(Settings(redis_url=valkey.url, host="0.0.0.0", auth="on"))
    await require_keys(Settings(redis_url=valkey.url, host="0.0.0.0", api_keys="a-key-given"))
    await keys.create(Grant())
    await require_keys(outside)


async def test_beyond_loopback_keys_are_needed_whatever_redis_says(redis: ArqRedis, valkey: Valkey) -> None:
    async with serving(valkey.url, host="0.0.0.0") as api:
        assert (await api.get("/v1/models")).status_code == 401


async def test_guessing_is_slowed_and_a_known_key_is_not(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore
) -> None:
    await announce(redis)
    _, secret = await keys.create(Grant())
    async with serving(valkey.url) as api:
        assert (await api.get("/v1/models", headers=bearer(secret))).status_code == 200
        said = [(await api.get("/v1/models", headers=bearer(new_secret()))).status_code for _ in range(40)]
        assert said == [401] * 30 + [429] * 10
        assert (await api.get("/v1/models", headers=bearer(secret))).status_code == 200


async def test_who_guesses_from_many_addresses_of_one_network_is_one_guesser(
    redis: ArqRedis, valkey: Valkey, keys: KeyStore
) -> None:
    await keys.create(Grant())
    said = []
    async with serving(valkey.url) as api:
        for number in range(40):
            api._transport.client = (f"2001:db8:1:2::{number}", 1)  # type: ignore[attr-defined]
            said.append((await api.get("/v1/models", headers=bearer(new_secret()))).status_code)
        assert said == [401] * 30 + [429] * 10
        api._transport.client = ("2001:db8:1:3::1", 1)  # type: ignore[attr-defined]
        assert (await api.get("/v1/models", headers=bearer(new_secret()))).status_code == 401


def test_a_throttle_forgets_and_is_bounded() -> None:
    now = 0.0
    throttle = Throttle(lambda: now)
    for number in range(20_000):
        throttle.note(f"host-{number}")
    assert len(throttle._failures) == 10_000
    for _ in range(30):
        throttle.note("guesser")
    assert throttle.wait_s("guesser") == 60
    now = 60.0
    assert throttle.wait_s("guesser") == 0
