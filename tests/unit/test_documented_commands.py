"""What the documents say to type is there: each command, flag, target, setting and file.

Blocks for a shell are played in bash with stand-ins that write down how they are called; that is held
against the real thing. `tests/integration/test_quick_starts.py` makes the requests.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from cli.main import app
from shared.settings_sources import SettingsError, load_settings
from tests.support.documents import ROOT, Block, blocks, make_stubs, play

OURS = ("backline", "make", "python", "python3", "curl")
ELSEWHERE = (
    "aider",
    "apt-get",
    "bwrap",
    "cline",
    "docker",
    "git",
    "honcho",
    "install",
    "kubectl",
    "openssl",
    "pip",
    "redis-cli",
    "systemctl",
    "useradd",
    "cp",
)
"""Not ours to check: they want a cluster, another user, a machine to change. Their blocks are played too."""
SHELL = blocks("sh", "console")


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins for all that is known."""
    return make_stubs(tmp_path_factory.mktemp("stubs"), (*OURS, *ELSEWHERE))


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_what_is_to_be_typed_is_there(block: Block, stubs: Path, tmp_path: Path) -> None:
    played = play(block, tmp_path, stubs)
    assert played.code == 0, f"{played.said}\nIs it a command that nobody knows here?"
    for command, *words in played.calls:
        match command:
            case "backline":
                _check_backline(words)
            case "make":
                _check_make(words)
            case "python" | "python3":
                _check_python(words)
    _check_settings(played.variables, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "backline fly",
        ".venv/bin/backline up --agnt x",
        "make coffee",
        "python -m nothing",
        "rm -rf everything",
        "BACKLINE_PROT=1",
        "BACKLINE_PORT=many",
        "if true",
    ],
)
def test_what_is_not_there_is_found_out(text: str, stubs: Path, tmp_path: Path) -> None:
    with pytest.raises((AssertionError, CycloptsError, SettingsError)):
        test_what_is_to_be_typed_is_there(Block("page.md", 1, "sh", f"{text}\n"), stubs, tmp_path)


def test_the_blocks_are_found() -> None:
    assert {"README.md", "docs/deployment.md", "docs/operations.md"} <= {block.page for block in SHELL}
    assert "make demo\n" in [block.text for block in SHELL if block.page == "README.md"]


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_is_python(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", blocks("json", "toml", "yaml"), ids=str)
def test_data_can_be_read(block: Block) -> None:
    match block.language:
        case "json":
            for value in re.split(r"\n(?=\{)", block.text.strip()):
                json.loads(value)
        case "toml":
            tomllib.loads(block.text)
        case _:
            yaml.safe_load(block.text)


def _check_backline(words: list[str]) -> None:
    app.parse_args(words, exit_on_error=False, print_error=False)


def _check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def _check_python(words: list[str]) -> None:
    if words[0] == "-m":
        path = ROOT.joinpath(*words[1].split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), words
    else:
        assert (ROOT / words[0]).is_file(), words


def _check_settings(variables: dict[str, str], place: Path) -> None:
    """Names that no setting has are refused, and values that do not fit."""
    ours = {name: value for name, value in variables.items() if name.startswith(("BACKLINE_", "REDIS_URL"))}
    ours.pop("BACKLINE_API_KEY", None)  # the clients' own
    filled = {name: value.replace("…", "xxxxxxxx") for name, value in ours.items()}
    load_settings({}, filled, place)
