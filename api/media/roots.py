"""Files of this host that a client names by path: only inside directories that the operator allows."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from api.media.sources import MediaError

_NEVER = tuple(Path(name) for name in ("/proc", "/sys", "/dev"))
_REFUSED = "It must be a file in a directory that this server allows."
"""One answer for what is outside, what is missing and what may not be read: nobody learns which it is."""
_WALK = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not hold the reader up


def read_below(roots: Sequence[Path], path: str, limit: int) -> bytes:
    """The bytes of the regular file `path`, at most `limit`; blocking.

    Symbolic links are followed, and what they lead to must be in a root too. Raises `MediaError`.
    """
    try:
        found = _resolve(roots, path)
        with os.fdopen(_open(*found), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MediaError(_REFUSED)
            data = file.read(limit + 1)
    except (OSError, ValueError, RuntimeError) as error:  # also a NUL byte, and a ring of links
        raise MediaError(_REFUSED) from error
    if len(data) > limit:
        raise MediaError(f"It is larger than {limit} bytes.")
    return data


def _resolve(roots: Sequence[Path], path: str) -> tuple[Path, Path]:
    """The root, and the file's place in it without any link; touches nothing that is named outside."""
    allowed = [root.resolve(strict=True) for root in roots if root.is_dir()]
    named = Path(os.path.normpath(path))
    if not any(named.is_relative_to(root) for root in (*roots, *allowed)):
        raise MediaError(_REFUSED)
    real = Path(path).resolve(strict=True)
    if any(real.is_relative_to(never) for never in _NEVER):
        raise MediaError(_REFUSED)
    for root in allowed:
        if real.is_relative_to(root):
            return root, real.relative_to(root)
    raise MediaError(_REFUSED)


def _open(root: Path, below: Path) -> int:
    """Open step by step without following a link, so that none that is put there meanwhile leads out."""
    *directories, name = below.parts
    held = os.open(root, _WALK)
    try:
        for directory in directories:
            step = os.open(directory, _WALK, dir_fd=held)
            os.close(held)
            held = step
        return os.open(name, _READ, dir_fd=held)
    finally:
        with suppress(OSError):
            os.close(held)
