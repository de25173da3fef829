"""What ends a command early, as one line for the person who typed it."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot go on; the message says why and what to do about it."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        """`code` is the exit code: 2 for a command that was written wrong, 1 for everything else."""
        super().__init__(message)
        self.code = code


class Stopped(Exception):  # noqa: N818 - no error: the operator asked for it
    """Ctrl-C or SIGTERM came while something was still being waited for."""
