"""JavaScript clients: installed from the committed lock file, run one scenario a process."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compat.scenarios import run_scenario

_SOURCE = Path(__file__).with_name("js")
_OLDEST = 20
_INSTALL_S = 55


class Node:
    """Runs scenarios with what was installed in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def run(self, client: str, scenario: str, **given: Any) -> Any:
        """Give what the scenario of `<client>.mjs` returns; what it throws fails the test."""
        return run_scenario([_program("node"), f"{client}.mjs", scenario], given, self._directory)


def find_node() -> Node:
    """Install the JavaScript clients, or skip with the reason when Node cannot run them."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip(f"not run: no `node` and `npm` of version {_OLDEST} or newer on this machine")
    said = subprocess.run([_program("node"), "--version"], capture_output=True, text=True, check=True).stdout
    if int(said.removeprefix("v").partition(".")[0]) < _OLDEST:
        pytest.skip(f"not run: Node {said.strip()} is older than {_OLDEST}")
    return Node(_install())


def _program(name: str) -> str:
    return shutil.which(name) or name


def _install() -> Path:
    sources = sorted(_SOURCE.iterdir())
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    directory = Path(sys.prefix) / f"compat-js-{digest[:16]}"
    directory.mkdir(exist_ok=True)
    with (directory / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # test processes run side by side
        if not (directory / ".ready").exists():
            for source in sources:  # modules are looked for beside the file that imports them
                shutil.copy(source, directory)
            command = [
                _program("npm"),
                "ci",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--loglevel=error",
            ]
            done = subprocess.run(
                command, cwd=directory, capture_output=True, text=True, timeout=_INSTALL_S, check=False
            )
            assert done.returncode == 0, f"npm ci failed:\n{done.stderr}"
            (directory / ".ready").touch()
    return directory
