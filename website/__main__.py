"""Builds the site in `dist/site`; a link or an anchor that leads nowhere ends it with 1: `make docs`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from website.source import ROOT, lay_out


def main() -> int:
    """Give the exit code of the build."""
    lay_out()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    plain = {} if sys.stdout.isatty() else {"NO_COLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=os.environ | plain, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
