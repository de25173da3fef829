"""The documents say what the code says. `python tests/unit/test_docs.py` writes the table of settings."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from litestar.handlers import HTTPRouteHandler
from msgspec.inspect import (
    BoolType,
    CustomType,
    FloatType,
    IntType,
    LiteralType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from api.anthropic.errors import envelope_of, status_of
from api.anthropic.wire import CountRequest, MessagesRequest
from api.errors import failed
from api.openai.responses.wire import Item, ResponsesRequest
from api.openai.text_wire import CompletionRequest
from api.openai.wire import ChatRequest
from api.routes import ROUTES
from cli import main as command
from shared import redis_keys, settings, transcript_keys
from shared.batches import redis_keys as batch_keys
from shared.run_events import ErrorKind, RunError
from shared.settings import Settings
from shared.settings_values import to_text
from shared.webhooks import redis_keys as webhook_keys

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")] + sorted(DOCS.glob("*.md"))
CONFIGURATION = DOCS / "configuration.md"
BEGIN, END = "<!-- settings: written by tests/unit/test_docs.py -->\n\n", "\n<!-- /settings -->"

COMPUTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "data_dir": (
        "`~/.local/share/backline` (Linux), `~/Library/Application Support/backline` (macOS)",
        lambda value: value.name == "backline",
    ),
    "slots": ("4 for each CPU", lambda value: value == 4 * (os.cpu_count() or 1)),
}
"""Defaults that depend on the host: their words, and a check that the words are true."""
SELF_EVIDENT = {
    "host": "Address the API listens on.",
    "port": "Port the API listens on.",
    "max_body_bytes": "The largest request body.",
    "log_level": "The least severe line that is logged.",
    "log_format": "`auto` is `console` on a terminal and `json` elsewhere.",
}
"""Meanings of settings that have no docstring."""
PARAMETERS = {"agent": "agents", "data": "data_dir"}


def settings_table() -> str:
    """Every setting, as a table."""
    meanings, flags, kinds = _meanings(), _flags(), get_type_hints(Settings, include_extras=True)
    lines = [
        "| Setting | Type | Default | Flag | Environment | Meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for field in msgspec.structs.fields(Settings):
        name = field.name
        environment = f"`BACKLINE_{name.upper()}`" + (" or `REDIS_URL`" if name == "redis_url" else "")
        cells = (
            f"`{name}`",
            _type(type_info(kinds[name])),
            _default(field),
            flags.get(name, ""),
            environment,
        )
        lines.append("| " + " | ".join((*cells, meanings[name])) + " |")
    return "\n".join(lines) + "\n"


def test_every_setting_is_in_the_table_with_its_default() -> None:
    written = CONFIGURATION.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    assert written == settings_table(), "run: .venv/bin/python tests/unit/test_docs.py"


@pytest.mark.parametrize("name", COMPUTED)
def test_the_words_for_a_computed_default_are_true(name: str) -> None:
    assert COMPUTED[name][1](getattr(Settings(), name))


def test_every_kind_of_failure_is_in_the_table_of_errors() -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    for kind in ErrorKind:
        error = failed(RunError(kind, ""), "run")
        assert re.search(rf"\| `{kind}` \| {error.status} \| `{error.type}` \| `{error.code}` \|", page), kind


def test_every_kind_of_failure_has_a_cause_and_a_remedy() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    for kind in ErrorKind:
        code = failed(RunError(kind, ""), "run").code
        named = rf"`{kind}`" if code == kind else rf"`{kind}` \(`{code}`\)"
        assert re.search(rf"^\| {named} \| .+ \| .+ \|$", page, flags=re.MULTILINE), kind


def test_every_page_is_on_the_site() -> None:
    shown = (ROOT / "zensical.toml").read_text("utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f'"docs/{page.name}"' not in shown] == []


def test_every_kind_of_failure_has_a_line_in_anthropics_table() -> None:
    page = (DOCS / "messages.md").read_text("utf-8")
    for kind in ErrorKind:
        error = failed(RunError(kind, ""), "run")
        here, said = status_of(error), envelope_of(error, "").error.type
        line = next(line for line in page.splitlines() if line.startswith("| ") and f"`{said}`" in line)
        there, shown = line.split(" | ")[:2]
        assert str(error.status) in there
        assert shown in {str(here), "the same"}


@pytest.mark.parametrize(
    ("request_kind", "name"),
    [
        (ChatRequest, "api.md"),
        (CompletionRequest, "api.md"),
        (MessagesRequest, "messages.md"),
        (CountRequest, "messages.md"),
    ],
)
def test_every_field_of_a_request_is_described(request_kind: type[msgspec.Struct], name: str) -> None:
    page = (DOCS / name).read_text("utf-8")
    assert [field for field in request_kind.__struct_fields__ if f"`{field}`" not in page] == []


def test_every_route_is_described() -> None:
    page = (DOCS / "api.md").read_text("utf-8")
    paths = {path for route in ROUTES if isinstance(route, HTTPRouteHandler) for path in route.paths}
    shown = {path: re.sub(r":str", "", path.replace("{model_id:path}", "{id}")) for path in paths}
    assert [path for path, name in shown.items() if f"`{name}`" not in page] == []


def test_every_field_and_item_of_a_response_is_described() -> None:
    page = (DOCS / "responses.md").read_text("utf-8")
    items = [str(item.__struct_config__.tag) for item in get_args(Item)]
    names = [*ResponsesRequest.__struct_fields__, *items]
    assert [name for name in names if f"`{name}`" not in page] == []


def test_every_name_in_redis_is_described() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    named_in = (redis_keys, batch_keys, webhook_keys, transcript_keys)
    made = [function for module in named_in for _, function in inspect.getmembers(module, inspect.isfunction)]
    names = [str(function(*[""] * len(inspect.signature(function).parameters))) for function in made]
    stems = {re.split(rf":({redis_keys.owner('')})?:", name + ":")[0] for name in names if ":" in name}
    stems |= {redis_keys.WORKERS, redis_keys.AGENTS, redis_keys.UNATTENDED}
    assert [stem for stem in sorted(stems) if f"`{stem.removesuffix(':')}" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        if "://" in target or path == "benchmarks/results.md" or path.endswith("/benchmarks/results.md"):
            continue  # elsewhere, or written by `make bench`
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if heading:
            assert heading in _headings(found), target


def test_the_tests_that_the_page_on_security_names_are_there() -> None:
    """`make test-security` runs them."""
    named = set(re.findall(r"`(tests/[^`]+)`", (DOCS / "security.md").read_text("utf-8")))
    assert named
    assert not [name for name in named if not _is_there(*name.partition("::")[::2])]


def _is_there(file: str, test: str) -> bool:
    path = DOCS.parent / file
    return path.is_file() and (not test or f"def {test}(" in path.read_text("utf-8"))


def _headings(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def _meanings() -> dict[str, str]:
    """The docstrings below the fields."""
    tree = ast.parse(inspect.getsource(settings))
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings").body
    found = dict(SELF_EVIDENT)
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(words))):
                    found[field.target.id] = " ".join(words.split())
    return found


def _flags() -> dict[str, str]:
    """Per setting its flag and the commands that have it."""
    commands: dict[str, list[str]] = {}
    flags: dict[str, str] = {}
    for function in (command.up, command.demo, command.api, command.worker):
        for parameter in inspect.signature(function).parameters:
            field = PARAMETERS.get(parameter, parameter)
            flags[field] = "--" + parameter.replace("_", "-")
            commands.setdefault(field, []).append(function.__name__)
    return {field: f"`{flag}` ({', '.join(commands[field])})" for field, flag in flags.items()}


def _default(field: Any) -> str:
    if field.name in COMPUTED:
        return COMPUTED[field.name][0]
    value = field.default
    if value in (None, ()):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{to_text(value)}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _type(shape: Type) -> str:
    match shape:
        case IntType(ge=low, le=high):
            words = f"whole number ≥ {low}" if high is None else f"whole number, {low} to {high}"
        case FloatType():
            words = "seconds > 0"
        case LiteralType(values=values):
            words = "one of " + ", ".join(f"`{value}`" for value in values)
        case BoolType():
            words = "true or false"
        case VarTupleType(item_type=StructType()):
            words = "list of tables"
        case VarTupleType(item_type=item):
            words = {CustomType: "list of paths", FloatType: "list of seconds"}.get(
                type(item), "list of texts"
            )
        case UnionType(types=types):
            words = _type(types[0])
        case _:
            words = "path" if isinstance(shape, CustomType) else "text"
    return words


def _write_table() -> None:
    before, _, rest = CONFIGURATION.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    CONFIGURATION.write_text(f"{before}{BEGIN}{settings_table()}{END}{after}", "utf-8")


if __name__ == "__main__":
    _write_table()
