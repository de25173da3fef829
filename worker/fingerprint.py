"""What an agent's directory looks like, as far as the CLI reads it when it starts."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_FILES = ("CLAUDE.md", "CLAUDE.local.md", ".mcp.json")
_MOST_FILES = 2_000
_FRESH_S = 0.5


class Fingerprints:
    """Fingerprints of agents' directories and the CLI, each looked at most twice a second."""

    def __init__(self, cli: Path) -> None:
        self._cli = cli
        self._seen: dict[Path, tuple[float, str]] = {}

    def of(self, directory: Path) -> str:
        """A value that changes when settings, servers, instructions, sub-agents, skills or the CLI do."""
        now = time.monotonic()
        looked_at, value = self._seen.get(directory, (-_FRESH_S, ""))
        if now - looked_at >= _FRESH_S:
            value = f"{_place(directory)} {_fingerprint([self._cli, *_watched(directory)])}"
            self._seen[directory] = (now, value)
        return value


def _place(directory: Path) -> str:
    """Which directory it is: one that was made anew is not where older processes are."""
    try:
        stat = directory.stat()
    except OSError:
        return "gone"
    return f"{stat.st_dev}:{stat.st_ino}"


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        digest.update(os.fsencode(path) + f"\0{stat.st_mtime_ns}\0{stat.st_size}\n".encode())
    return digest.hexdigest()


def _watched(directory: Path) -> Iterator[Path]:
    """The files at the top, and all of `.claude` up to a bound."""
    yield from (directory / name for name in _FILES)
    found: list[Path] = []
    with suppress(OSError):  # it goes away meanwhile
        found = sorted((directory / ".claude").rglob("*"))
    yield from found[:_MOST_FILES]
