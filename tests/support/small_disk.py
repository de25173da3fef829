"""A disk of a few MiB that fills up, in a mount namespace of its own: it needs no rights and ends with it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SHELL = """
set -e
mount -t tmpfs -o size={size},mode=0700 none {place}
echo made
while read -r line; do eval "$line"; echo done; done
"""
_FILLING = "filling"


class SmallDisk:
    """`path` leads to it for every process of this user, as long as the disk is there."""

    def __init__(self, shell: subprocess.Popen[str], place: str) -> None:
        self._shell = shell
        self._place = place
        self.path = Path(f"/proc/{shell.pid}/root{place}")

    def fill(self) -> None:
        """Leave no byte free."""
        with (self.path / _FILLING).open("ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        disk = os.statvfs(self.path)
        assert disk.f_bavail == 0, disk

    def make_room(self) -> None:
        """Take back what `fill` has written."""
        (self.path / _FILLING).unlink()

    def remount(self, how: str) -> None:
        """`ro` or `rw`."""
        self._say(f"mount -o remount,{how} {self._place}")

    def _say(self, line: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{line}\n")
        self._shell.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._shell.stdout is not None
        return self._shell.stdout.readline().strip()


@contextmanager
def small_disk(size: str) -> Iterator[SmallDisk]:
    """A tmpfs of `size`, as `mount` writes it."""
    with tempfile.TemporaryDirectory(prefix="bl-disk-", dir="/tmp") as place:
        argv = ["unshare", "--user", "--map-root-user", "--mount", "--kill-child"]
        shell = subprocess.Popen(
            [*argv, "sh", "-c", _SHELL.format(size=size, place=place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        disk = SmallDisk(shell, place)
        try:
            assert disk._answer() == "made", "this host lets nobody mount a tmpfs in a namespace"
            yield disk
        finally:
            shell.kill()
            shell.communicate(timeout=10)
