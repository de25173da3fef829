"""Clients that exclude what others need, each in an environment of its own.

`python -m tests.compat` installs and drives these; `make test` does not, because they are large.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compat.scenarios import run_scenario

WANTED = "COMPAT_APART"
_SOURCE = Path(__file__).with_name("environments")
_INSTALL_S = 50


class Apart:
    """Runs scenarios of one file with the Python of its environment."""

    def __init__(self, python: Path, scenarios: Path) -> None:
        self._python = python
        self._scenarios = scenarios

    def run(self, scenario: str, **given: Any) -> Any:
        """Give what the scenario returns; what it raises fails the test."""
        return run_scenario([self._python, self._scenarios, scenario], given)


def find_apart(name: str) -> Apart:
    """The environment of `environments/<name>.txt`, or a skip where it is not wanted."""
    if not os.environ.get(WANTED):
        pytest.skip(f"not run: {name} needs an environment of its own; `python -m tests.compat` has it")
    requirements = _SOURCE / f"{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    directory = Path(sys.prefix) / f"compat-{name}-{digest}"
    directory.mkdir(exist_ok=True)
    with (directory / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # test processes run side by side
        if not (directory / ".ready").exists():
            _install(directory / "env", requirements)
            (directory / ".ready").touch()
    return Apart(directory / "env" / "bin" / "python", _SOURCE / f"{name}.py")


def _install(environment: Path, requirements: Path) -> None:
    uv, python = str(Path(sys.executable).with_name("uv")), str(environment / "bin" / "python")
    _run([uv, "venv", "--clear", "--python", sys.executable, str(environment)])
    _run([uv, "pip", "install", "--python", python, "--no-deps", "-r", str(requirements)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
