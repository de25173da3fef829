"""What the page for users of other wrappers says is here, is here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import get_args

import msgspec
import pytest
from cyclopts import CycloptsError, MissingArgumentError
from litestar.handlers import HTTPRouteHandler

from api.backline import BacklineInfo
from api.claude_options import ClaudeOptions
from api.openai.wire import ChatRequest
from api.routes import ROUTES
from cli.main import app
from shared.fallbacks import Fallback
from shared.keys import Limits
from shared.settings import PERMISSION_MODES, ClientRight, Settings
from tests.support.documents import ROOT

PAGE = ROOT / "docs/migrating.md"
FILES = {".env", ".mcp.json", ".claude/settings.json", "backline.toml", "api_keys.json"}
CLAUDES = {"model", "additionalDirectories", "sonnet", "opus", "haiku", "ANTHROPIC_API_KEY", "API_KEYS"}
"""Words of Claude Code's own, and two that Backline reads under their common names."""
VALUES = {"0", "debug", "role", "system", "admin", "path", "agent", "max_requests", "after", "limit", "auto"}
VALUES |= {"off", "on", *PERMISSION_MODES, *get_args(ClientRight)}


def _named() -> Iterator[tuple[str, str]]:
    """Each thing that the column `Here` names, with its row."""
    for row in re.findall(r"^\| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE):
        here = row.strip("| ").split(" | ")[-1]
        yield from ((name, row) for name in re.findall(r"`([^`]+)`", here))


def test_the_page_has_all_five() -> None:
    assert len(re.findall(r"^\| There \| Here \|$", PAGE.read_text("utf-8"), re.MULTILINE)) == 5


def test_all_that_is_named_is_there() -> None:
    wrong = [f"{name}  in  {row}" for name, row in _named() if not _is_there(name)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["--claude-dir", "sloots", "/v1/nothing", "backline fly", "make coffee"])
def test_what_is_not_there_is_found_out(name: str) -> None:
    assert not _is_there(name)


def _is_there(name: str) -> bool:
    first, _, rest = name.partition(" ")
    if first == "backline":
        return _is_command(name)
    if first == "make":
        return f"\n{rest}:" in (ROOT / "Makefile").read_text("utf-8")
    if name.startswith("--"):
        return _is_command(f"backline up {name} x")
    return name in {*FILES, *CLAUDES, *VALUES, *_routes(), *_fields()} or _is_variable(name)


def _is_variable(name: str) -> bool:
    fallback = re.fullmatch(r"BACKLINE_FALLBACK_\d+_([A-Z]+)", name)
    return name == "BACKLINE_CONFIG" or bool(fallback and fallback[1].lower() in Fallback.__struct_fields__)


def _is_command(line: str) -> bool:
    try:
        app.parse_args(line.split()[1:], exit_on_error=False, print_error=False)
    except MissingArgumentError:  # a command is named, and not what it needs
        return True
    except CycloptsError:
        return False
    return True


@cache
def _routes() -> set[str]:
    paths = {path for route in ROUTES if isinstance(route, HTTPRouteHandler) for path in route.paths}
    return {path.replace(":str", "") for path in paths}


@cache
def _fields() -> set[str]:
    inner: dict[str, type[msgspec.Struct]] = {"claude_options": ClaudeOptions, "backline": BacklineInfo}
    dotted = {
        f"{name}.{field.encode_name}"
        for name, kind in inner.items()
        for field in msgspec.structs.fields(kind)
    }
    return {*Settings.__struct_fields__, *ChatRequest.__struct_fields__, *Limits.__struct_fields__, *dotted}
