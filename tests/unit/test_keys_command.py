from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from cli.main import main
from shared import redis_keys
from shared.key_import import KeyImportError, parse_keys
from shared.keys import Limits
from shared.settings_sources import load_settings, to_environment, without_settings
from tests.unit.support import Valkey


@pytest.fixture(autouse=True)
def alone(valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey.url)
    with Redis.from_url(valkey.url) as client:
        client.flushall()


def test_a_key_lives_through_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def keys(*arguments: str) -> Any:
        assert main(["keys", *arguments]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out or "null")

    wish = ("--name", "ci", "--agent", "a", "--scope", "run", "--limit", "usd_per_day=1.5", "--limit")
    made = keys("create", *wish, "requests_per_minute=9", "--may", "permissions", "--json")
    assert made["secret"].startswith("bl_")
    assert made["limits"] == {"requests_per_minute": 9, "usd_per_day": 1.5}
    (listed,) = keys("list", "--json")
    assert (listed["id"], listed["scopes"], listed["agents"]) == (made["id"], ["run"], ["a"])
    assert "secret" not in listed
    assert "hash" not in listed
    turned = keys("rotate", made["id"], "--overlap-hours", "1", "--json")
    assert turned["secret"] != made["secret"]
    assert keys("show", made["id"], "--json")["old_until"]
    assert main(["keys", "revoke", made["id"]]) == 0
    assert main(["keys", "revoke", made["id"]]) == 1
    assert main(["keys", "list"]) == 0
    assert "revoked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "--scope", "root"], "Scopes: run, read, admin"),
        (["create", "--limit", "requests=1"], "requests_per_minute"),
        (["create", "--limit", "requests_per_day"], "NAME=NUMBER"),
        (["import", "absent.json"], "Cannot read the keys"),
    ],
)
def test_a_mistake_says_what_may_stand_there(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_is_taken_over_once_and_stays_revoked(
    tmp_path: Path, valkey: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "api_keys.json").write_text('[{"key": "CANARY-imported-1", "max_requests": 5}]')
    for _ in range(2):
        assert main(["keys", "import", "api_keys.json"]) == 0
    with Redis.from_url(valkey.url) as client:
        (key_id,) = client.hkeys(redis_keys.KEYS)
        assert b"CANARY" not in client.hget(redis_keys.KEYS, key_id)
        assert main(["keys", "revoke", key_id.decode()]) == 0
        assert main(["keys", "import", "api_keys.json"]) == 0
        assert client.hlen(redis_keys.KEY_HASHES) == 0
    assert "CANARY" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("key-number-1, key-number-2,", ["key-number-1", "key-number-2"]),
        ('["key-number-1"]', ["key-number-1"]),
        ('{"keys": ["key-number-1"]}', ["key-number-1"]),
        ('{"api_keys": [{"key": "key-number-1"}]}', ["key-number-1"]),
        ('{"key": "key-number-1", "max_requests": 2}', ["key-number-1"]),
        ('{"key-number-1": {"max_requests": 2}, "key-number-2": "Bob"}', ["key-number-1", "key-number-2"]),
    ],
)
def test_keys_come_in_the_shapes_that_are_about(text: str, secrets: list[str]) -> None:
    assert [each.secret for each in parse_keys(text, "here")] == secrets


def test_an_entry_says_how_much_and_what_for() -> None:
    text = '[{"key": "key-number-1", "max_requests": 7, "period": "month", "description": "Ann"}]'
    ((_, grant),) = parse_keys(text, "here")
    assert (grant.name, grant.limits) == ("Ann", Limits(requests_per_month=7))


@pytest.mark.parametrize("text", ['[{"kye": "CANARY-1234"}]', '["CANARY"]', '["CANARY-1234"', '[{"key": 1}]'])
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(KeyImportError) as caught:
        parse_keys(text, "the file")
    assert "the file" in str(caught.value)
    assert "CANARY" not in str(caught.value)


def test_keys_of_the_environment_reach_the_api_and_no_agent(tmp_path: Path) -> None:
    environ = {"API_KEYS": "CANARY-key-1,CANARY-key-2"}
    loaded = load_settings({}, environ, tmp_path)
    assert loaded.settings.api_keys == environ["API_KEYS"]
    assert to_environment(loaded.settings)["BACKLINE_API_KEYS"] == environ["API_KEYS"]
    assert without_settings(environ) == {}
    (tmp_path / "api_keys.json").write_text("[]")
    assert load_settings({}, {}, tmp_path).settings.api_keys_file == tmp_path / "api_keys.json"


def test_a_new_key_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create"]) == 0
    assert "backline up" not in capsys.readouterr().err  # the Redis was named
    monkeypatch.delenv("REDIS_URL")
    assert main(["keys", "create", "--data", str(tmp_path / "d")]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("bl_")
    assert f"`backline up` with the data in {tmp_path / 'd'}" in told.err
