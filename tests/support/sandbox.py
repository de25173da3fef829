"""Whether this machine can have the sandbox; tests of what it holds have nothing to test without it."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

from shared.settings import Settings
from worker.sandbox.bubblewrap import find_sandbox


@cache
def missing_sandbox() -> str:
    """Why there is no sandbox here; empty when there is one."""
    with tempfile.TemporaryDirectory() as place:
        box, why = find_sandbox(Settings(data_dir=Path(place)), (), os.environ)
    return "" if box is not None else why
