from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cli.banner import base_url, curl_example, python_example
from cli.credentials import check_credentials, without_credentials
from cli.errors import CommandError
from cli.main import main
from cli.ports import choose_port


@pytest.fixture(autouse=True)
def bare_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings, credentials or login of the person who runs the tests."""
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["up"], 2, "Give at least one agent"),
        (["up", "--agent", "gone"], 2, "'gone' is not there"),
        (["up", "--agent", "note.md"], 2, "'note.md' is not a directory"),
        (["up", "--prot", "1"], 2, "Did you mean --port?"),
        (["up", "--port", "x", "--agent", "."], 2, "--port is 'x'"),
        (["demo", "--port", "0"], 2, "--port is '0'"),
        (["api"], 2, "needs a Redis"),
        (["worker", "--agent", "."], 2, "needs a Redis"),
        (["worker", "--redis-url", "redis://x"], 2, "Give at least one agent"),
        (["upp"], 2, 'Did you mean "up"?'),
        (["up", "--agent", "assistant"], 1, "`make demo` needs none"),
        (["up", "--agent", "assistant", "--redis-url", "http://x"], 2, "must be a redis://"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "assistant").mkdir()
    (tmp_path / "note.md").touch()
    assert main(arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert message in told.err
    assert told.err.startswith("backline: ")
    assert told.err.count("\n") == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"
    assert main(["--help"]) == 0
    assert "worker" in capsys.readouterr().out


@pytest.mark.parametrize(
    "environ",
    [
        {"ANTHROPIC_API_KEY": "k"},
        {"ANTHROPIC_AUTH_TOKEN": "k"},
        {"CLAUDE_CODE_OAUTH_TOKEN": "k"},
        {"CLAUDE_CODE_USE_BEDROCK": "1"},
        {"CLAUDE_CODE_USE_VERTEX": "true"},
    ],
)
def test_credentials_in_the_environment_are_found(tmp_path: Path, environ: dict[str, str]) -> None:
    check_credentials({"HOME": str(tmp_path), **environ}, [])


@pytest.mark.parametrize(
    "environ", [{}, {"ANTHROPIC_API_KEY": " "}, {"CLAUDE_CODE_USE_BEDROCK": "0"}, {"ANTHROPIC_BASE_URL": "x"}]
)
def test_no_credentials_are_said_in_one_sentence(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(CommandError, match=r"ANTHROPIC_API_KEY.*claude.*CLAUDE_CODE_USE_BEDROCK.*make demo"):
        check_credentials({"HOME": str(tmp_path), **environ}, [tmp_path])


def test_a_login_or_a_key_helper_is_found(tmp_path: Path) -> None:
    login, agent = tmp_path / ".claude", tmp_path / "agent"
    login.mkdir()
    (login / ".credentials.json").write_text("{}")
    check_credentials({"HOME": str(tmp_path)}, [])
    (agent / ".claude").mkdir(parents=True)
    (agent / ".claude" / "settings.json").write_text('{"apiKeyHelper": "/bin/key"}')
    check_credentials({"HOME": str(tmp_path / "else")}, [agent])


def test_the_demo_cannot_reach_a_real_account() -> None:
    environ = {"ANTHROPIC_API_KEY": "k", "CLAUDE_CODE_USE_BEDROCK": "1", "AWS_PROFILE": "p", "PATH": "/bin"}
    assert without_credentials(environ) == {"PATH": "/bin"}


def test_a_taken_port_gives_way_unless_it_was_asked_for() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        chosen = choose_port("127.0.0.1", port, asked=False)
        assert chosen != port
        assert 9000 <= chosen <= 10000
        with pytest.raises(CommandError, match=f"Port {port} on 127.0.0.1 is already in use"):
            choose_port("127.0.0.1", port, asked=True)
    assert choose_port("127.0.0.1", port, asked=True) == port


def test_a_foreign_address_is_refused() -> None:
    with pytest.raises(CommandError, match="no such address"):
        choose_port("192.0.2.1", 9000, asked=False)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9"),
        ("0.0.0.0", "http://127.0.0.1:9"),
        ("::", "http://[::1]:9"),
        ("fe80::1", "http://[fe80::1]:9"),
    ],
)
def test_the_banner_names_an_address_that_can_be_reached(host: str, url: str) -> None:
    assert base_url(host, 9) == url


def test_examples_can_be_pasted() -> None:
    compile(python_example("http://127.0.0.1:9", "assistant"), "example", "exec")
    assert all(line.endswith("\\") for line in curl_example("http://x", "m").splitlines()[:-1])
