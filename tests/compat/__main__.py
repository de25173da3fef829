"""Runs the suite and writes its table: `python -m tests.compat [pytest's options]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.compat.apart import WANTED
from tests.compat.report import Table


def main() -> int:
    """Give pytest's exit code."""
    os.environ[WANTED] = "1"
    return int(pytest.main([str(Path(__file__).parent), *sys.argv[1:]], plugins=[Table()]))


if __name__ == "__main__":
    sys.exit(main())
