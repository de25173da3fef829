"""Settings can be looked at: their values, their origins, and all that is wrong with them at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cli.main import main
from shared.settings import Settings


@pytest.fixture(autouse=True)
def nobodys_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_every_setting_is_shown_with_its_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "backline.toml").write_text("slots = 3\n")
    (tmp_path / ".env").write_text("BACKLINE_WARM=2\n")
    monkeypatch.setenv("BACKLINE_PORT", "9100")
    assert main(["config", "show", "--json"]) == 0
    shown = msgspec.json.decode(capsys.readouterr().out)
    assert list(shown) == list(Settings.__struct_fields__)
    assert shown["slots"] == {"value": "3", "origin": str(tmp_path / "backline.toml")}
    assert shown["warm"] == {"value": "2", "origin": f"BACKLINE_WARM in {tmp_path / '.env'}"}
    assert shown["port"] == {"value": "9100", "origin": "BACKLINE_PORT"}
    assert shown["host"] == {"value": "127.0.0.1", "origin": "default"}
    assert main(["config", "show", "--origin", "--given"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://me:hidden@redis.example:6379/0")
    monkeypatch.setenv("API_KEYS", "hidden-key")
    monkeypatch.setenv("BACKLINE_FALLBACK_1_URL", "https://api.example/v1")
    monkeypatch.setenv("BACKLINE_FALLBACK_1_KEY", "hidden-too")
    monkeypatch.setenv("BACKLINE_FALLBACK_1_MODEL", "m")
    for words in (["--origin"], ["--json"]):
        assert main(["config", "show", *words]) == 0
        told = capsys.readouterr().out
        assert "hidden" not in told
        assert "redis://…@redis.example:6379/0" in told


def test_all_problems_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "backline.toml").write_text("wram = 1\nqueue_limit = 0\n")
    monkeypatch.setenv("BACKLINE_SLOTS", "many")
    monkeypatch.setenv("BACKLINE_PROT", "1")
    monkeypatch.setenv("BACKLNE_PORT", "1")
    assert main(["config", "check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told] == [
        *("Nobody", "Unknown", "Unknown"),
        *("BACKLINE_SLOTS", "queue_limit", "backline:"),
    ]
    assert "is BACKLINE_PORT meant?" in told[0]


def test_good_settings_are_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert "The settings are good" in capsys.readouterr().out


def test_a_file_that_is_no_toml_is_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "backline.toml").write_text("= 1")
    assert main(["config", "check"]) == 1
    assert "Cannot read" in capsys.readouterr().err


def test_the_key_of_a_client_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_API_KEY", "x")
    assert main(["config", "check"]) == 0


def test_a_setting_that_is_none_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "prot"]) == 2
    assert "There is no setting prot" in capsys.readouterr().err
