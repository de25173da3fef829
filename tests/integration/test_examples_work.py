"""Each example agent passes the check, and each example's client does what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripted_model import Script, call, say, script, text, use_tool
from tests.compat.scripts import WEATHER
from tests.support.documents import ROOT, blocks
from tests.support.model import Model
from tests.support.processes import BACKLINE
from tests.support.stack import Stack, clean_environ, running_stack

EXAMPLES = Path(__file__).parents[2] / "examples"
AGENTS = sorted(path.name for path in (EXAMPLES / "agents").iterdir() if path.is_dir())
_CLIENT_S = 50


@pytest.fixture(scope="module")
def served(model: Model) -> Iterator[Stack]:
    """Copies of the example agents, so that nothing that runs can change them."""
    with running_stack(model, workers=0, slots=4) as stack:
        for name in AGENTS:
            shutil.copytree(EXAMPLES / "agents" / name, stack.root / "agents" / name)
        (stack.make_agent("editor") / ".claude/settings.json").write_text(_editors_settings())
        stack.start_worker((*AGENTS, "editor"))
        stack.wait_ready(1)
        yield stack


def client(
    stack: Stack, name: str, *words: object, said: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run an example's client as its first line says."""
    return subprocess.run(
        [sys.executable, EXAMPLES / "clients" / f"{name}.py", *map(str, words)],
        input=said,
        env=clean_environ(stack.root) | {"BACKLINE_URL": stack.url} | environ,
        capture_output=True,
        text=True,
        timeout=_CLIENT_S,
        check=False,
    )


def test_the_example_agents_pass_the_check(tmp_path: Path) -> None:
    done = subprocess.run(
        [BACKLINE, "agents", "check", *AGENTS, "--mcp"],
        cwd=EXAMPLES / "agents",
        env=clean_environ(tmp_path) | {"BACKLINE_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=_CLIENT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(f"agent {name}" in done.stdout for name in AGENTS)
    assert "orders" in done.stdout


def test_the_handbook_is_searched_and_answered_from(served: Stack, model: Model, marker: str) -> None:
    answer = script(
        call(use_tool("Bash", {"command": "grep -rin 'next year' docs"})),
        call(text("Five days, until 31 March (leave.md).")),
    )
    done = client(served, "ask_handbook", marker, answer)
    assert (done.returncode, done.stdout) == (0, "Five days, until 31 March (leave.md).\n"), done.stderr
    assert "[Bash]" in done.stderr
    assert "Up to 5 days may be taken along" in model.calls(marker)[-1].everything


def test_the_order_desk_calls_its_server_and_remembers(served: Stack, model: Model, marker: str) -> None:
    first = script(
        call(use_tool("mcp__orders__find_order", {"number": "A-1041"})),
        call(use_tool("mcp__orders__stock_of", {"part": "bell-brass"})),
        call(
            use_tool("mcp__orders__draft", {"number": "A-1041", "part": "bell-brass", "kind": "replacement"})
        ),
        call(text("I have drafted a new bell.")),
    )
    lines = [f"{marker} My bell in A-1041 is broken. {first}", f"{marker} Thank you! {say('Gladly.')}"]
    done = client(served, "order_desk", said="\n".join(lines))
    assert (done.returncode, done.stdout) == (0, "I have drafted a new bell.\nGladly.\n"), done.stderr
    calls = model.calls(marker)
    assert "00340434161094" in calls[1].everything
    assert "D-A-1041-bell-brass" in calls[3].everything
    assert "My bell in A-1041" in calls[4].everything


def test_a_review_asks_its_sub_agent_and_gives_findings(served: Stack, model: Model, marker: str) -> None:
    found = [{"file": "run.py", "line": 3, "kind": "bug", "what": "The name reaches a shell."}]
    done = client(served, "review", said=f"+ os.system(name)\n{marker} {_review(marker, found)}")
    assert (done.returncode, done.stdout) == (1, "run.py:3: bug: The name reaches a shell.\n"), done.stderr
    everything = "".join(each.everything for each in model.calls(marker))
    assert "Nothing about style." in everything  # the skill was read
    assert "one who wants to break in" in everything  # and the sub-agent asked


def test_a_folder_is_answered_as_one_batch(served: Stack, tmp_path: Path) -> None:
    for name in ("one.md", "two.txt"):
        (tmp_path / name).write_text(f"All about {name}. {say(f'It is about {name}.')}\n")
    (tmp_path / "picture.png").write_bytes(b"no text")
    done = client(served, "batch_folder", tmp_path, "What is this about?", AGENT="handbook")
    assert (done.returncode, done.stdout) == (0, "completed: 2 of 2\n"), done.stderr
    assert (tmp_path / "one.md.answer").read_text() == "It is about one.md.\n"
    assert (tmp_path / "two.txt.answer").read_text() == "It is about two.txt.\n"


def _review(marker: str, found: list[dict[str, object]]) -> Script:
    inner = f"{marker} {say('nothing')}"
    return script(
        call(use_tool("Skill", {"skill": "review"})),
        call(use_tool("Agent", {"description": "attack it", "prompt": inner, "subagent_type": "security"})),
        call(text(json.dumps({"findings": found}))),
    )


def test_an_editors_agent_has_no_tools_but_the_editors(served: Stack, model: Model, marker: str) -> None:
    with served.sync_sdk() as sdk:
        message: Any = {"role": "user", "content": f"{marker} {say('Hello.')}"}
        sdk.chat.completions.create(model="editor", messages=[message], tools=[WEATHER])
    names = {tool["name"] for tool in model.call(marker).body["tools"]}
    assert names - {"DeferredToolPlaceholder"} == {"get_weather"}  # the CLI's stand-in for nothing


def _editors_settings() -> str:
    """As docs/clients.md has them."""
    (found,) = [block for block in blocks("json", pages=[ROOT / "docs/clients.md"]) if "deny" in block.text]
    return found.text


def test_no_example_is_left_out() -> None:
    clients = {path.stem for path in (EXAMPLES / "clients").glob("*.py")}
    assert clients == {"ask_handbook", "batch_folder", "order_desk", "review"}
    assert os.sep not in "".join(AGENTS)
