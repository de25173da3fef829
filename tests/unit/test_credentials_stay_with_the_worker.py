"""Which credentials a worker keeps to itself, and what a process is given in their place."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.runs import LaunchOptions
from shared.settings import Settings
from worker.claude.launch import Launch
from worker.gate.gate import Gate
from worker.gate.passes import Passes
from worker.gate.upstream import GateError, find_upstream, outward_proxy, without_credentials

KEY = "sk-ant-the-operators"


def test_a_process_is_given_a_pass_and_no_credential() -> None:
    environ = {
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_AUTH_TOKEN": "secret-token",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Secret: secret-header",
        "CLAUDE_CODE_OAUTH_TOKEN": "secret-oauth",
        "PATH": "/bin",
        "NO_PROXY": "internal",
    }
    upstream = find_upstream(Settings(), environ)
    assert upstream is not None
    assert upstream.headers["authorization"] == "Bearer secret-token"
    seen = without_credentials(environ)
    assert seen == {"PATH": "/bin", "NO_PROXY": "internal"}
    gate = Gate(upstream, Settings(), environ)
    launch = Launch(
        argv=(),
        cwd=Path("/"),
        env=seen,
        marker="",
        scratch=Path("/"),
        model=None,
        options=LaunchOptions(),
        is_mirrored=True,
    )
    issued = gate.issue()
    env = gate.open_for(launch, issued).env
    gate.close()
    assert env["ANTHROPIC_API_KEY"] == env["ANTHROPIC_AUTH_TOKEN"] == issued.token
    assert env["ANTHROPIC_BASE_URL"].startswith("http://127.0.0.1:")
    assert env["NO_PROXY"] == "internal,127.0.0.1"
    assert env["_CLAUDE_CODE_ASSUME_FIRST_PARTY_BASE_URL"] == "1"
    assert "secret" not in repr(env)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"ANTHROPIC_API_KEY": " "},
        {"CLAUDE_CODE_OAUTH_TOKEN": "t"},
        {"ANTHROPIC_API_KEY": KEY, "CLAUDE_CODE_USE_BEDROCK": "1"},
        {"ANTHROPIC_API_KEY": KEY, "CLAUDE_CODE_USE_VERTEX": "true"},
    ],
)
def test_where_the_login_is_no_key_there_is_no_proxy(environ: dict[str, str]) -> None:
    assert find_upstream(Settings(), environ) is None
    for settings in (Settings(credential_proxy="on"), Settings(allowed_models=("claude-x",))):
        with pytest.raises(GateError):
            find_upstream(settings, environ)


def test_passes_are_not_guessed() -> None:
    passes = Passes()
    issued = {passes.issue().token for _ in range(100)}
    assert len(issued) == 100
    assert all(len(token) > 40 for token in issued)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://out:3128"}, "http://out:3128"),
        ({"https_proxy": "http://out:3128", "NO_PROXY": "example.com"}, "http://out:3128"),
        ({"HTTPS_PROXY": "http://out:3128", "NO_PROXY": "localhost,.anthropic.com"}, None),
        ({"HTTPS_PROXY": "http://out:3128", "NO_PROXY": "thropic.com"}, "http://out:3128"),
        ({"HTTPS_PROXY": "http://out:3128", "no_proxy": "*"}, None),
        ({"HTTP_PROXY": "http://out:3128"}, None),
    ],
)
def test_the_way_out_is_the_environments(environ: dict[str, str], proxy: str | None) -> None:
    assert outward_proxy("https://api.anthropic.com", environ) == proxy
