"""A way to the credential proxy without a network: a socket that is a file, which a sandbox can be given."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil

DOOR = Path("/run/backline/model.sock")
"""Where a process in a sandbox finds it; the CLI (2.1) goes there by `ANTHROPIC_UNIX_SOCKET`."""


class Door:
    """Listens below `data_dir`, for the worker's user alone. Raises `OSError` when it cannot."""

    def __init__(self, data_dir: Path) -> None:
        place = data_dir / "doors"
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in place.iterdir():  # by workers that were killed
            if not psutil.pid_exists(int(left.stem)):
                left.unlink(missing_ok=True)
        self.path = place.resolve() / f"{os.getpid()}.sock"
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX)
        directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        try:  # a socket's path may have 107 bytes, and a data directory's may have more
            self.socket.bind(f"/proc/self/fd/{directory}/{self.path.name}")
        finally:
            os.close(directory)
        self.path.chmod(0o600)
        self.socket.listen(128)

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()
        with suppress(OSError):
            self.path.unlink()
