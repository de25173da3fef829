"""Facts about this machine and what runs on it, for the head of the report."""

from __future__ import annotations

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.results import Host
from cli.embedded_redis import server_binary
from shared.settings import Settings
from worker.claude.launch import find_cli

ROOT = Path(__file__).resolve().parent.parent
_ANSWER_S = 20.0


def describe_host(arguments: Sequence[str]) -> Host:
    """Describe this host, and the command line that `arguments` came from."""
    return Host(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        commit=_commit(),
        cpu_model=_cpu_model(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cli=_said([str(find_cli(Settings())), "--version"]).partition(" ")[0],
        redis=_redis(),
        command=shlex.join([".venv/bin/python", "-m", "benchmarks", *arguments]),
    )


def _commit() -> str:
    commit = _said(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    changed = _said(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return f"{commit} with uncommitted changes" if commit and changed else commit or "unknown"


def _redis() -> str:
    said = _said([server_binary(), "--version"])
    found = re.search(r"(\w+) server v=(\S+)", said)
    return f"{found[1]} {found[2]}" if found else said


def _cpu_model() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        found = re.search(r"^model name\s*:\s*(.+)$", described.read_text("utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _said(argv: Sequence[str]) -> str:
    """What a program says on its standard output; nothing when it cannot be run."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
