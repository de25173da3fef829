"""The requests and programs that the documents show are made, against the demo that they begin with."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import Block, blocks, make_stubs, play
from tests.support.stack import _free_port, clean_environ
from tests.support.waiting import wait_for

BACKLINE = Path(sys.executable).with_name("backline")
_DEMO = re.compile(r"http://127\.0\.0\.1:900[01]")
_LATER = re.compile(r"…|9002|llama_index|library\.example")
"""What a reader has to fill in, another server, what is not installed here."""
PROGRAMS = [
    block
    for block in blocks("python")
    if block.text.startswith("from ") and "127.0.0.1" in block.text and not _LATER.search(block.text)
]
REQUESTS = [block for block in blocks("sh") if re.search(r"^curl ", block.text, re.MULTILINE)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`backline demo`, as `make demo` starts it; gives its address."""
    place, port = tmp_path_factory.mktemp("demo"), _free_port()
    said = place / "said"
    with (
        said.open("w") as out,
        subprocess.Popen(
            [BACKLINE, "demo", "--port", str(port)],
            cwd=place,
            env=clean_environ(place) | {"TMPDIR": str(place)},
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            wait_for(lambda: "Ctrl-C stops" in said.read_text(), 40, "the demo says that it is ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            assert process.wait(45) == 0


@pytest.mark.parametrize("block", REQUESTS, ids=str)
def test_requests_are_answered(block: Block, demo: str, tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    played = play(block, tmp_path, make_stubs(stubs, ("curl", "make", "backline", "python")))
    made = [call for call in played.calls if call[0] == "curl" and not _LATER.search(" ".join(call))]
    for _, *words in made:
        there = [_DEMO.sub(demo, word) for word in words]
        assert there != words, "it asks another server than the documented one"
        done = subprocess.run(
            ["/usr/bin/env", "curl", "-sS", "--fail-with-body", "--max-time", "40", *there],
            env=dict(os.environ) | {"NO_PROXY": "127.0.0.1"},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_programs_run(block: Block, demo: str, tmp_path: Path) -> None:
    (tmp_path / "loans.csv").write_text("book,until\n17,2026-12-01\n")
    line = next(block for block in blocks("json") if "loan-17" in block.text).text.replace("\n", " ")
    (tmp_path / "requests.jsonl").write_text(line)
    done = subprocess.run(
        [sys.executable, "-c", _DEMO.sub(demo, block.text)],
        cwd=tmp_path,
        env=clean_environ(tmp_path),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_readmes_first_request_is_among_them() -> None:
    assert "README.md" in {block.page for block in REQUESTS}
    assert "README.md" in {block.page for block in PROGRAMS}
