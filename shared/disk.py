"""Disks that are full, or may only be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
"""What the operating system says when a disk takes nothing more."""
_LEAST_FREE = 64 * 1024
"""Less than this (bytes) is as good as nothing: the least that anything here writes is a block or two."""


def trouble_at(place: Path) -> str:
    """Why nothing could be written to `place`, or where it will be, without its name; empty when it could.

    It writes nothing, so it does not see a quota of this user's.
    """
    try:
        existing = next(each for each in (place.absolute(), *place.absolute().parents) if each.exists())
        disk = os.statvfs(existing)
    except OSError as error:
        return f"The disk cannot be looked at: {error.strerror}."
    if disk.f_flag & os.ST_RDONLY:
        return "The disk may only be read."
    # A disk without a number of files, as btrfs, has none free either.
    if disk.f_bavail * disk.f_frsize < _LEAST_FREE or (disk.f_files and not disk.f_favail):
        return "The disk is full."
    return ""
