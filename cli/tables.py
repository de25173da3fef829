"""What commands print of things they list: tables for people, JSON for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from cyclopts import Parameter

Json = Annotated[bool, Parameter(help="Print JSON.")]


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    say(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their columns; what is wider than the terminal is not cut."""
    from rich.console import Console  # noqa: PLC0415 - imported here so that --help is quick
    from rich.table import Table  # noqa: PLC0415

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*row)
    wide = 1_000  # else a pipe's 80 columns would cut ids
    Console(highlight=False, markup=False, soft_wrap=True, width=wide).print(table)


def print_fields(shown: dict[str, object]) -> None:
    """Print what is known, a line a field; what is not known is left out."""
    known = {name: value for name, value in shown.items() if value not in (None, "", [], {})}
    width = max(map(len, known), default=0)
    for name, value in known.items():
        plain = value if isinstance(value, str | int | float) else msgspec.json.encode(value).decode()
        say(f"{name:{width}}  {plain}")


def age(seconds: float) -> str:
    """How long ago a time was, in one unit."""
    return span(max(0.0, time.time() - seconds))


def span(seconds: float | None) -> str:
    """A length of time in one unit; empty when it is not known."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def moment(seconds: float) -> str:
    """A time as people and programs read it; UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def say(text: str) -> None:
    """Print a line on standard output."""
    sys.stdout.write(f"{text}\n")
