from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from shared.settings import Settings
from shared.settings_sources import SettingsError, load_settings, to_environment, without_settings


def test_nothing_given_means_defaults(tmp_path: Path) -> None:
    loaded = load_settings({}, {}, tmp_path)
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"default"}
    assert not loaded.asked("port")


def test_flags_beat_environment_beats_dotenv_beats_toml(tmp_path: Path) -> None:
    (tmp_path / "backline.toml").write_text('port = 1004\nhost = "toml"\nslots = 4\nqueue_limit = 4\n')
    (tmp_path / ".env").write_text("BACKLINE_PORT=1003\nBACKLINE_HOST=dotenv\nBACKLINE_SLOTS=3\n")
    environ = {"BACKLINE_PORT": "1002", "BACKLINE_HOST": "environment"}
    loaded = load_settings({"port": "1001", "host": None}, environ, tmp_path)
    settings = loaded.settings
    assert (settings.port, settings.host, settings.slots, settings.queue_limit) == (1001, "environment", 3, 4)
    assert loaded.origins["port"] == "--port"
    assert loaded.origins["host"] == "BACKLINE_HOST"
    assert loaded.origins["slots"] == f"BACKLINE_SLOTS in {tmp_path / '.env'}"
    assert loaded.origins["queue_limit"] == str(tmp_path / "backline.toml")
    assert loaded.asked("port")


def test_redis_url_has_a_common_name_of_lower_rank(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://common:1", "BACKLINE_REDIS_URL": "redis://own:1"}
    assert load_settings({}, environ, tmp_path).settings.redis_url == "redis://own:1"
    del environ["BACKLINE_REDIS_URL"]
    loaded = load_settings({}, environ, tmp_path)
    assert (loaded.settings.redis_url, loaded.origins["redis_url"]) == ("redis://common:1", "REDIS_URL")


def test_credentials_in_dotenv_are_handed_on_below_the_environment(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ANTHROPIC_API_KEY=dotenv\nHOME=dotenv\n")
    loaded = load_settings({}, {"HOME": "environment"}, tmp_path)
    assert loaded.environ == {"ANTHROPIC_API_KEY": "dotenv", "HOME": "environment"}


def test_empty_means_unset(tmp_path: Path) -> None:
    environ = {"BACKLINE_PORT": "", "REDIS_URL": " ", "BACKLINE_AGENTS": ""}
    assert set(load_settings({"host": ""}, environ, tmp_path).origins.values()) == {"default"}


def test_lists_and_paths_in_text(tmp_path: Path) -> None:
    environ = {
        "BACKLINE_AGENTS": "a, name=b/c ,",
        "BACKLINE_DATA_DIR": "data",
        "BACKLINE_RUN_TIMEOUT_S": "2.5",
        "BACKLINE_MEDIA_ROOTS": "pictures, /srv/files",
        "BACKLINE_FETCH_PRIVATE": "true",
    }
    settings = load_settings({}, environ, tmp_path).settings
    assert settings.agents == ("a", "name=b/c")
    assert settings.data_dir == tmp_path / "data"
    assert settings.run_timeout_s == 2.5
    assert settings.media_roots == (tmp_path / "pictures", Path("/srv/files"))
    assert settings.fetch_private is True
    assert load_settings({}, to_environment(settings), tmp_path).settings == settings


@pytest.mark.parametrize("value", ["yes", "2", "on"])
def test_a_switch_is_true_or_false(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match="must be true or false"):
        load_settings({}, {"BACKLINE_FETCH_PRIVATE": value}, tmp_path)


def test_a_config_file_may_stand_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "else.toml"
    elsewhere.write_text("port = 7")
    assert load_settings({}, {"BACKLINE_CONFIG": "else.toml"}, tmp_path).settings.port == 7
    with pytest.raises(SettingsError, match=r"BACKLINE_CONFIG names .*gone\.toml, and there is no such file"):
        load_settings({}, {"BACKLINE_CONFIG": "gone.toml"}, tmp_path)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"BACKLINE_PROT": "1"},
            "Unknown variable BACKLINE_PROT in the environment; did you mean BACKLINE_PORT?",
        ),
        ({"BACKLINE_XYZZY": "1"}, "Unknown variable BACKLINE_XYZZY in the environment."),
        ({"BACKLINE_PORT": "abc"}, "BACKLINE_PORT is 'abc', but must be a whole number from 1 to 65535."),
        ({"BACKLINE_PORT": "70000"}, "BACKLINE_PORT is '70000', but must be a whole number from 1 to 65535."),
        ({"BACKLINE_SLOTS": "0"}, "BACKLINE_SLOTS is '0', but must be a whole number of at least 1."),
        (
            {"BACKLINE_IDLE_TIMEOUT_S": "inf"},
            "BACKLINE_IDLE_TIMEOUT_S is 'inf', but must be a number of seconds greater than 0.",
        ),
        (
            {"BACKLINE_LOG_FORMAT": "xml"},
            "BACKLINE_LOG_FORMAT is 'xml', but must be one of auto, console, json.",
        ),
        (
            {"REDIS_URL": "http://u:secret@host"},
            "REDIS_URL is '…@host', but must be a redis://, rediss:// or unix:// URL.",
        ),
        (
            {"BACKLINE_AGENTS": "[3]"},
            "BACKLINE_AGENTS is '[3]', but must be a list of texts (separated by commas, outside TOML).",
        ),
    ],
)
def test_a_bad_variable_is_one_clear_sentence(tmp_path: Path, environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ, tmp_path)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prot = 1", "Unknown setting prot in {path}; did you mean port?"),
        ('port = "9000"', "port in {path} is '9000', but must be a whole number from 1 to 65535."),
        (
            "agents = 3",
            "agents in {path} is 3, but must be a list of texts (separated by commas, outside TOML).",
        ),
        ("data_dir = 3", "data_dir in {path} is 3, but must be a path."),
        ("port =", "Cannot read {path}: Invalid value (at end of document)."),
    ],
)
def test_a_bad_toml_names_the_file(tmp_path: Path, toml: str, message: str) -> None:
    path = tmp_path / "backline.toml"
    path.write_text(toml)
    with pytest.raises(SettingsError) as caught:
        load_settings({}, {}, tmp_path)
    assert str(caught.value) == message.format(path=path)


def test_a_bad_value_in_dotenv_names_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BACKLINE_PORT=x\n")
    with pytest.raises(SettingsError, match=r"^BACKLINE_PORT in .*\.env is 'x', but must be a whole number"):
        load_settings({}, {}, tmp_path)


@pytest.mark.parametrize("agents", [(), ("a", "n=b"), ("with, comma", "b"), ("[odd]",), (" spaced ",)])
def test_settings_survive_the_way_through_a_childs_environment(
    tmp_path: Path, agents: tuple[str, ...]
) -> None:
    given = msgspec.structs.replace(
        Settings(), agents=agents, port=7, redis_url="unix:///x", run_timeout_s=0.5, data_dir=tmp_path / "d"
    )
    environ = to_environment(given)
    assert load_settings({}, environ, tmp_path).settings == given
    assert without_settings({**environ, "REDIS_URL": "x", "PATH": "y"}) == {"PATH": "y"}


def test_fallbacks_are_numbered_in_the_environment(tmp_path: Path) -> None:
    environ = {
        "BACKLINE_FALLBACK_2_URL": "http://two.example/v1",
        "BACKLINE_FALLBACK_2_MODELS": "a=m, b/opus=n",
        "BACKLINE_FALLBACK_2_TIMEOUT_S": "5",
        "BACKLINE_FALLBACK_1_URL": "https://one.example/v1",
        "BACKLINE_FALLBACK_1_MODEL": "gpt",
        "BACKLINE_FALLBACK_1_KEY": "hidden-key",
    }
    settings = load_settings({}, environ, tmp_path).settings
    one, two = settings.fallbacks
    assert (one.label, one.key, one.model_for("any", None)) == ("one.example", "hidden-key", "gpt")
    assert [two.model_for(*asked) for asked in (("a", None), ("b", "opus"), ("b", None))] == ["m", "n", ""]
    assert two.timeout_s == 5
    assert "hidden-key" not in repr(settings)
    assert load_settings({}, to_environment(settings), tmp_path).settings.fallbacks == settings.fallbacks


def test_fallbacks_are_tables_in_toml(tmp_path: Path) -> None:
    (tmp_path / "backline.toml").write_text(
        '[[fallbacks]]\nurl = "https://one.example/v1"\nmodel = "gpt"\npriority = 3\n'
    )
    (one,) = load_settings({}, {}, tmp_path).settings.fallbacks
    assert (one.model, one.priority) == ("gpt", 3)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"BACKLINE_FALLBACK_1_MODEL": "m", "BACKLINE_FALLBACK_1_KEY": "hidden-key"}, "`url`"),
        ({"BACKLINE_FALLBACK_1_URL": "ftp://x", "BACKLINE_FALLBACK_1_MODEL": "m"}, "http://"),
        ({"BACKLINE_FALLBACK_1_URL": "http://x/v1"}, "model or models"),
        ({"BACKLINE_FALLBACK_1_ADRESS": "http://x/v1"}, "BACKLINE_FALLBACK_1_ADRESS"),
    ],
)
def test_a_bad_fallback_is_told_without_its_key(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({}, environ, tmp_path)
    assert said in str(caught.value)
    assert "hidden-key" not in str(caught.value)
