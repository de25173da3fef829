"""What was forged is refused: a run chooses no directory, flag, mode or server that a request may not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.content import TextPart
from shared.runs import LaunchOptions, RunRequest
from shared.settings import Settings
from worker.admission import NotPermittedError, admit, directory_in


def asked(**fields: object) -> RunRequest:
    return RunRequest(agent="a", prompt=(TextPart("x"),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        asked(),
        asked(model="claude-opus-4-1", session="0f2c8f2e-7d3b-4a44-9a35-111111111111", head="a1"),
        asked(model="sonnet[1m]"),
        asked(revision="team/v1.2"),
        asked(options=LaunchOptions(tools=(), disallowed_tools=("Bash(git push:*)", "mcp__x__y"))),
        asked(options=LaunchOptions(permission_mode="plan", agents='{"a": {}}', max_turns=3)),
    ],
)
def test_what_a_request_may_choose_is_admitted(request_: RunRequest) -> None:
    admit(request_, Settings())


@pytest.mark.parametrize(
    "request_",
    [
        asked(model="--dangerously-skip-permissions"),
        asked(model="../../x"),
        asked(model=""),
        asked(session="../../../home/x"),
        asked(session="a/b"),
        asked(session=".hidden"),
        asked(head="x\ny"),
        asked(revision="--all"),
        asked(revision="v1..v2"),
        asked(revision="v1", project="proj_" + "0" * 32),
        asked(revision="v1", options=LaunchOptions(working_dir="/tmp")),
        *(
            asked(options=LaunchOptions(**fields))
            for fields in (
                {"tools": ("Bash,Write",)},
                {"tools": ("--mcp-config=x",)},
                {"disallowed_tools": ("a\nb",)},
                {"tools": tuple("x" * 300)},
                {"permission_mode": "bypassPermissions"},
                {"permission_mode": "acceptEdits"},
                {"permission_mode": "anything"},
                {"mcp_config": '{"mcpServers": {}}'},
                {"agents": "/etc/passwd"},
                {"agents": "[]"},
                {"agents": "[" * 100_000},
                {"agents": '{"a": "' + "x" * 70_000 + '"}'},
                {"working_dir": "/etc"},
                {"add_dirs": ("/",)},
            )
        ),
    ],
)
def test_what_a_request_may_not_choose_is_refused(request_: RunRequest) -> None:
    with pytest.raises(NotPermittedError):
        admit(request_, Settings())


def test_an_operator_may_let_requests_choose_more() -> None:
    options = LaunchOptions(permission_mode="bypassPermissions", mcp_config='{"mcpServers": {}}')
    admit(asked(options=options), Settings(client_may=("permissions", "mcp_config")))


@pytest.fixture
def roots(tmp_path: Path) -> Settings:
    (tmp_path / "root/in").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root/file").touch()
    (tmp_path / "root/out").symlink_to(tmp_path / "outside")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root/loop")
    (tmp_path / "root/kernel").symlink_to("/proc/self")
    (tmp_path / "link").symlink_to(tmp_path / "root")
    return Settings(client_roots=(tmp_path / "root",))


@pytest.mark.parametrize("place", ["root", "root/in", "root/in/..", "root/./in/", "link/in"])
def test_directories_in_a_root_are_admitted(roots: Settings, tmp_path: Path, place: str) -> None:
    admit(asked(options=LaunchOptions(working_dir=f"{tmp_path}/{place}")), roots)
    assert directory_in(f"{tmp_path}/{place}", roots).is_relative_to(tmp_path / "root")


@pytest.mark.parametrize(
    "place",
    [
        "outside",
        "root/../outside",
        "root/out",
        "root/out/x",
        "root/loop",
        "root/file",
        "root/no",
        "",
        "root/\0",
    ],
)
def test_what_leads_out_of_a_root_is_refused_alike(roots: Settings, tmp_path: Path, place: str) -> None:
    with pytest.raises(NotPermittedError, match="does not let a request choose"):
        admit(asked(options=LaunchOptions(add_dirs=(f"{tmp_path}/{place}",))), roots)


@pytest.mark.parametrize("place", ["root/in", "~", "", "/proc/self", "--x"])
def test_only_whole_paths_are_paths(roots: Settings, place: str) -> None:
    with pytest.raises(NotPermittedError):
        directory_in(place, Settings(client_roots=(Path("/"),)) if place == "/proc/self" else roots)


@given(st.text())
def test_no_text_leads_out(place: str) -> None:
    with pytest.raises(NotPermittedError):
        directory_in(place, Settings(client_roots=(Path("/nowhere-at-all"),)))
