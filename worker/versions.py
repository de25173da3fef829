"""What an agent is, by the contents of its directory: the same on every host that has the same files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_MOST_FILES = 2_000
_MOST_BYTES = 64 * 1024 * 1024
_SKIPPED = frozenset({".git", "__pycache__"})


class AgentVersions:
    """Versions of directories; a file is read again when its time or size has changed."""

    def __init__(self, also: str) -> None:
        self._also = also
        self._read: dict[Path, tuple[int, int, bytes]] = {}

    def of(self, directory: Path) -> str:
        """A hash (hex) of all files in `directory`; empty when they are too many or too large to tell.

        It reads files: not for the event loop's thread, nor for two threads at a time.
        """
        digest = hashlib.sha256(self._also.encode())
        left = _MOST_BYTES
        for count, path in enumerate(_files(directory)):
            try:
                stat = path.stat()
                left -= stat.st_size
                if count >= _MOST_FILES or left < 0:
                    return ""
                content = self._digest(path, stat.st_mtime_ns, stat.st_size)
            except OSError:  # gone meanwhile, a dangling link, or not to be read
                continue
            name = os.fsencode(path.relative_to(directory))
            digest.update(b"%d\0%s\0%s" % (len(name), name, content))
        return digest.hexdigest()

    def _digest(self, path: Path, changed: int, size: int) -> bytes:
        known = self._read.get(path)
        if known is not None and known[:2] == (changed, size):
            return known[2]
        content = hashlib.sha256(path.read_bytes()).digest()
        if len(self._read) > 10 * _MOST_FILES:
            self._read.clear()
        self._read[path] = changed, size, content
        return content


def _files(directory: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED)
        yield from (path for name in sorted(names) if (path := Path(folder, name)).is_file())
