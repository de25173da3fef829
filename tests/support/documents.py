"""The fenced blocks of the documents, and what a shell would make of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_STUB = """\
#!/bin/sh
printf '%s\\0' "${0##*/}" "$@" >> "$CALLS"
printf '\\n\\0' >> "$CALLS"
echo c29tZXRoaW5nIHRoYXQgYSBjb21tYW5kIHNheXMuLi4=
"""
_LEFT = """\
set -a
{text}
for name in $(compgen -e); do printf '%s=%s\\0' "$name" "${{!name}}"; done > "$VARIABLES"
"""


class Block(msgspec.Struct, frozen=True):
    """A fenced block, without its indentation."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Played(msgspec.Struct, frozen=True):
    """What a shell did with a block: commands called, each with its words, and the variables at its end."""

    calls: list[list[str]]
    variables: dict[str, str]
    said: str
    code: int


def blocks(*languages: str, pages: Iterable[Path] = PAGES) -> list[Block]:
    """Blocks of these languages, in the order of the pages."""
    found = []
    for page in pages:
        text = page.read_text("utf-8")
        for match in _FENCE.finditer(text):
            indent, language, inside = match.groups()
            if language in languages:
                line = text.count("\n", 0, match.start()) + 1
                lines = [each.removeprefix(indent) for each in inside.splitlines()]
                found.append(Block(str(page.relative_to(ROOT)), line, language, "\n".join(lines) + "\n"))
    return found


def shell_of(block: Block) -> str:
    """What is to be typed: a block of the language `console` shows answers too."""
    if block.language == "sh":
        return block.text
    typed = [line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ ")]
    return "\n".join(typed) + "\n"


def make_stubs(place: Path, names: Iterable[str]) -> Path:
    """Commands of these names that only write down how they were called; gives their directory."""
    for name in names:
        (place / name).write_text(_STUB)
        (place / name).chmod(0o755)
    return place


def play(block: Block, place: Path, stubs: Path) -> Played:
    """Have bash run a block in the directory `place`, where there are no commands but the `stubs`.

    Any other ends the block with 127, as in any shell: nothing of a document is really done.
    """
    calls, variables = place / "calls", place / "variables"
    (place / ".venv").mkdir()
    (place / ".venv" / "bin").symlink_to(stubs)
    calls.write_bytes(b"")
    done = subprocess.run(
        ["/bin/bash", "-e", "-c", _LEFT.format(text=shell_of(block))],
        cwd=place,
        env={"PATH": str(stubs), "CALLS": str(calls), "VARIABLES": str(variables)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    left = variables.read_text("utf-8").split("\0") if done.returncode == 0 else []
    words = calls.read_text("utf-8").split("\0\n\0")
    return Played(
        calls=[call.split("\0") for call in words if call],
        variables=dict(entry.split("=", 1) for entry in left if "=" in entry),
        said=done.stderr,
        code=done.returncode,
    )
