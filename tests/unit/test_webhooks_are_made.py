"""Endpoints are made and changed within bounds, by API and by command; their secrets are shown once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from redis import Redis

from api.main import ApiStartError, serve
from cli.main import main
from shared.settings import Settings
from shared.settings_sources import SettingsError, load_settings, to_environment
from shared.telemetry import redacted
from shared.webhooks.records import EVENT_TYPES, is_secret, new_secret
from tests.support.receiver import Receiver, running_receiver
from tests.unit.support import Valkey
from tests.unit.support_api import error_of, serving

PATH = "/v1/webhooks"
PUBLIC = "https://93.184.215.14/hook"
WISH = {"url": PUBLIC, "event_types": ["response.completed"]}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


async def test_a_secret_is_shown_once(redis: ArqRedis, valkey: Valkey) -> None:
    async with serving(valkey.url, max_webhooks=2) as api:
        made = (await api.post(PATH, json={**WISH, "name": "mine"})).json()
        assert is_secret(made["signing_secret"])
        assert made["signing_secret_hint"] == f"whsec_…{made['signing_secret'][-4:]}"
        assert (made["object"], made["name"], made["disabled_at"]) == ("webhook_endpoint", "mine", None)
        rotated = (await api.post(f"{PATH}/{made['id']}/rotate_secret")).json()
        assert rotated["signing_secret"] != made["signing_secret"]
        shown = (await api.get(f"{PATH}/{made['id']}")).json()
        newest = (await api.post(PATH, json=WISH)).json()
        listed = (await api.get(PATH, params={"limit": 1})).json()
        rest = (await api.get(PATH, params={"after": listed["last_id"]})).json()
        assert {one["id"] for one in listed["data"] + rest["data"]} == {made["id"], newest["id"]}
        assert (listed["has_more"], rest["has_more"]) == (True, False)
        for one in (shown, *listed["data"], *rest["data"]):
            assert "signing_secret" not in one
        assert error_of(await api.post(PATH, json=WISH))["code"] == "too_many_webhooks"
        assert (await api.delete(f"{PATH}/{made['id']}")).json()["deleted"]
        assert (await api.get(f"{PATH}/{made['id']}")).status_code == 404
        assert (await api.post(PATH, json=WISH)).status_code == 200


@pytest.mark.parametrize(
    ("wish", "param"),
    [
        ({"url": "http://93.184.215.14/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://localhost:9000/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://169.254.169.254/"}, "url"),
        ({"url": "https://me:word@93.184.215.14/"}, "url"),
        ({"url": "https://93.184.215.14/" + "x" * 3000}, "url"),
        ({"url": ""}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["eval.run.failed"]}, "event_types[0]"),
        ({"name": "x" * 201}, "name"),
    ],
)
async def test_what_cannot_be_is_refused(
    redis: ArqRedis, valkey: Valkey, wish: dict[str, Any], param: str
) -> None:
    async with serving(valkey.url) as api:
        refused = await api.post(PATH, json={**WISH, **wish})
        assert (refused.status_code, error_of(refused)["param"]) == (400, param)
        made = (await api.post(PATH, json=WISH)).json()["id"]
        refused = await api.post(f"{PATH}/{made}", json=wish)
        assert (refused.status_code, error_of(refused)["param"]) == (400, param)
        assert (await api.get(f"{PATH}/{made}")).json()["url"] == PUBLIC


async def test_a_disabled_one_is_enabled_again(redis: ArqRedis, valkey: Valkey) -> None:
    async with serving(valkey.url) as api:
        place = f"{PATH}/{(await api.post(PATH, json=WISH)).json()['id']}"
        assert (await api.post(place, json={"enabled": False})).json()["disabled_at"]
        assert error_of(await api.post(f"{place}/deliveries/evt_1/redeliver"))["code"] == "webhook_disabled"
        changed = (await api.post(place, json={"enabled": True, "event_types": ["batch.failed"]})).json()
        assert (changed["disabled_at"], changed["event_types"]) == (None, ["batch.failed"])
        refused = await api.post(f"{place}/deliveries/evt_1/redeliver")
        assert error_of(refused)["code"] == "delivery_not_found"


async def test_a_test_says_what_the_endpoint_answered(
    redis: ArqRedis, valkey: Valkey, receiver: Receiver
) -> None:
    async with serving(valkey.url, webhook_private=True) as api:
        url = receiver.endpoint("/status/418")
        made = (await api.post(PATH, json={**WISH, "url": url})).json()["id"]
        tried = (await api.post(f"{PATH}/{made}/test", json={"event_type": "batch.expired"})).json()
        assert (tried["status_code"], tried["event_type"]) == (418, "batch.expired")
        await api.post(f"{PATH}/{made}", json={"url": "http://127.0.0.1:1/"})
        refused = await api.post(f"{PATH}/{made}/test")
        assert (refused.status_code, error_of(refused)["code"]) == (400, "webhook_not_reached")


def test_an_endpoint_lives_through_the_command(
    valkey: Valkey,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey.url)
    monkeypatch.setenv("BACKLINE_WEBHOOK_PRIVATE", "true")
    with Redis.from_url(valkey.url) as client:
        client.flushall()

    def webhooks(*arguments: str, code: int = 0) -> str:
        assert main(["webhooks", *arguments]) == code, capsys.readouterr().err
        said = capsys.readouterr()
        return said.out + said.err

    made = json.loads(webhooks("create", receiver.endpoint(), "--tenant", "t", "--json"))
    assert (made["event_types"], is_secret(made["signing_secret"])) == (list(EVENT_TYPES), True)
    assert made["id"] in webhooks("list", "--tenant", "t")
    assert "signing_secret" not in json.loads(webhooks("list", "--tenant", "t", "--json"))[0]
    assert webhooks("list") == ""
    assert "answered with 204" in webhooks("test", made["id"], "--tenant", "t")
    assert "not found" in webhooks("delete", made["id"], code=1)
    assert webhooks("delete", made["id"], "--tenant", "t") == f"Deleted {made['id']}.\n"
    assert "response.completed" in webhooks("create", receiver.url, "--event", "nonsense", code=2)
    monkeypatch.setenv("BACKLINE_WEBHOOK_PRIVATE", "false")
    assert "must be https" in webhooks("create", receiver.url, code=1)


@pytest.mark.parametrize(
    "environ",
    [
        {"BACKLINE_WEBHOOK_SECRET": "whsec_CANARY"},
        {"BACKLINE_WEBHOOK_SECRET": "CANARY" * 8},
        {"BACKLINE_WEBHOOK_URL": "CANARY"},
        {"BACKLINE_WEBHOOK_RETRIES_S": "5,inf"},
        {"BACKLINE_WEBHOOK_RETRIES_S": "5,-1"},
    ],
)
def test_a_wrong_setting_is_refused_without_being_shown(environ: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ, tmp_path)
    assert "CANARY" not in str(caught.value)


def test_the_operators_endpoint_needs_both_settings_and_they_go_round(tmp_path: Path) -> None:
    given = {"BACKLINE_WEBHOOK_URL": "http://10.0.0.1/x", "BACKLINE_WEBHOOK_SECRET": new_secret()}
    given |= {"BACKLINE_WEBHOOK_RETRIES_S": "1, 2.5"}
    settings = load_settings({}, given, tmp_path).settings
    assert list(settings.webhook_retries_s) == [1, 2.5]
    assert load_settings({}, to_environment(settings), tmp_path).settings == settings
    with pytest.raises(ApiStartError, match="go together"):
        serve(Settings(redis_url="redis://127.0.0.1:1", webhook_url="https://a.example/"), {})


def test_logs_hold_no_signing_secret() -> None:
    secret = new_secret()
    assert secret[6:30] not in redacted(f"secret={secret}")
