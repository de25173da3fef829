"""What the doctor says of one thing."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the report; `mend` is the command, or the one step, that puts it right."""

    name: str
    state: State
    said: str
    mend: str = ""


def ok(name: str, said: str) -> Finding:
    """All is well."""
    return Finding(name, "ok", said)


def warning(name: str, said: str, mend: str) -> Finding:
    """It works, but not as it should in production."""
    return Finding(name, "warning", said, mend)


def failed(name: str, said: str, mend: str) -> Finding:
    """Requests will fail, or nothing will start."""
    return Finding(name, "failed", said, mend)
