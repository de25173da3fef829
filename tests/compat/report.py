"""Writes docs/compatibility.md's table from a run; a pytest plugin that `python -m tests.compat` loads."""

from __future__ import annotations

import json
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

_PAGE = Path(__file__).parents[2] / "docs/compatibility.md"
_LOCK = Path(__file__).with_name("js") / "package-lock.json"
_APART = Path(__file__).with_name("environments")
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_FEATURES = (
    "answer",
    "stream",
    "usage in a stream",
    "tools",
    "parallel tools",
    "streamed tools",
    "tool_choice",
    "structured output",
    "images",
    "errors",
    "mid-stream errors",
    "retries",
    "cancellation",
    "n > 1",
    "completions",
    "responses",
    "background responses",
    "files and batches",
    "stored completions",
    "models",
)
_CLIENTS = {
    "openai (Python)": ("openai",),
    "openai (JavaScript)": ("node_modules/openai",),
    "AI SDK (JavaScript)": ("node_modules/ai", "node_modules/@ai-sdk/openai-compatible"),
    "anthropic (Python)": ("anthropic",),
    "anthropic (JavaScript)": ("node_modules/@anthropic-ai/sdk",),
    "openai-agents (Python)": ("openai-agents",),
    "LangChain (Python)": ("langchain-openai",),
    "LangChain (JavaScript)": ("node_modules/@langchain/openai",),
    "LlamaIndex (Python)": ("llama-index-llms-openai-like",),
    "LiteLLM (Python)": ("litellm",),
    "instructor (Python)": ("instructor",),
    "llm (Python)": ("llm",),
}
"""Each client's packages: as pip names them, or where npm's lock file has them, or those apart."""

_MARKS = {"passed": "✓", "failed": "✗", "skipped": "not run"}


class Table:
    """Collects how the tests of each cell ended."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note an outcome; a fixture that fails fails the test."""
        if report.when == "call" or report.outcome != "passed":
            cells = [value for name, value in report.user_properties if name == "compat"]
            for client, feature in msgspec.convert(cells, list[tuple[str, str]]):
                self._cells[client, feature].add(report.outcome)

    def pytest_sessionfinish(self) -> None:
        """Put the table into the page."""
        before, _, rest = _PAGE.read_text("utf-8").partition(_BEGIN)
        _PAGE.write_text(f"{before}{_BEGIN}\n\n{self._table()}\n\n{_END}{rest.partition(_END)[2]}", "utf-8")

    def _table(self) -> str:
        names = [f"{client}<br>{_versions(packages)}" for client, packages in _CLIENTS.items()]
        lines = [_row(["", *names]), _row(["---"] * (len(names) + 1))]
        lines += [
            _row([feature, *(self._mark(client, feature) for client in _CLIENTS)]) for feature in _FEATURES
        ]
        return "\n".join(lines)

    def _mark(self, client: str, feature: str) -> str:
        outcomes = self._cells.get((client, feature), set())
        return next((_MARKS[one] for one in ("failed", "skipped", "passed") if one in outcomes), "-")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _versions(packages: tuple[str, ...]) -> str:
    locked = json.loads(_LOCK.read_text("utf-8"))["packages"]
    apart = dict(
        line.split("==") for path in _APART.glob("*.txt") for line in path.read_text().split() if "==" in line
    )
    return ", ".join(
        locked[name]["version"] if name in locked else apart.get(name) or version(name) for name in packages
    )
