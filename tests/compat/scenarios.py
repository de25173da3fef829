"""Scenarios of clients in processes of their own: JSON in, JSON out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scripted_model import Script
from tests.compat.scripts import MODEL

Play = Callable[..., Any]
"""From a scenario's name, a script for its prompt and what else it is given to what it returns."""
_RUN_S = 45


def run_scenario(command: Sequence[str | Path], given: dict[str, Any], cwd: Path | None = None) -> Any:
    """Give what the scenario returns; what it throws fails the test."""
    done = subprocess.run(
        command,
        cwd=cwd,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def player(run: Play, url: str, marker: str) -> Play:
    """Play scenarios by `run` against `url`, with the marker and a script in their prompts."""

    def play(scenario: str, script: Script | None = None, **given: Any) -> Any:
        prompt = f"{marker} {script or ''}"
        return run(scenario, **{"url": url, "model": MODEL, "prompt": prompt, "marker": marker, **given})

    return play
