"""A git repository with an agent in it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_GIT = shutil.which("git") or "git"


class GitRepository:
    """Commits what is in `root`, with nothing of the machine's own configuration."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        """Run git; gives what it says."""
        named = (
            "-c",
            "user.name=Tester",
            "-c",
            "user.email=tester@example.com",
            "-c",
            "commit.gpgsign=false",
        )
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        done = subprocess.run(
            [_GIT, *named, *words], cwd=self.root, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str], tag: str = "") -> str:
        """Write files by their paths, commit all there is, and tag it; gives the commit."""
        for path, content in files.items():
            place = self.root / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", tag or "change")
        if tag:
            self.git("tag", tag)
        return self.git("rev-parse", "HEAD")
