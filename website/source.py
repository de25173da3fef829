"""What the site is made from: the repository's pages where they are, and the API's reference."""

from __future__ import annotations

import shutil
from pathlib import Path

from website.reference import write_reference

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "dist" / "site-source"
_SHOWN = (
    "docs",
    "deploy",
    "examples",
    "benchmarks/results.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Procfile",
    "docker-compose.yml",
)
"""Pages, and what they link to. Each keeps its place, so that a link is the same as in the repository."""


def lay_out() -> None:
    """Write the site's source anew, below `dist/`."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    shutil.copyfile(ROOT / "README.md", SOURCE / "index.md")
    for name in _SHOWN:
        _copy(ROOT / name, SOURCE / name)
    write_reference(SOURCE / "docs")


def _copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, to, ignore=shutil.ignore_patterns("__pycache__"))
    elif path.exists():
        shutil.copyfile(path, to)
