"""A table, and what stands in its cells. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.figures import ratio, us_per_token
from benchmarks.results import Cpu, Wait

MIB = 1024 * 1024


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table as it is shown; every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str


def table_markdown(table: Table) -> str:
    """One table in Markdown: the first column to the left, figures to the right."""
    rule = ["---", *("---:" for _ in table.columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table.columns, rule, *table.rows))


def waits(bare: Wait, gateway: Wait, what: str) -> tuple[str, ...]:
    """Two ends of a comparison, what the one adds to the other, and their ratio."""
    one, other = getattr(bare, what), getattr(gateway, what)
    return (
        *(ms(one.p50), ms(one.p95), ms(other.p50), ms(other.p95)),
        ms(other.p50 - one.p50),
        factor(ratio(other.p50, one.p50)),
    )


def judged(target: str, is_reached: bool | None) -> str:
    """A target, and whether it was reached; `None`: what was measured cannot tell."""
    verdict = {True: "reached", False: "missed", None: "not judged"}[is_reached]
    return f"{target}: {verdict}"


def ms(value: float) -> str:
    """Milliseconds."""
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / MIB:.1f}"


def us(cpu: Cpu, part_s: float) -> str:
    """CPU seconds of a part as microseconds a token."""
    return f"{us_per_token(part_s, cpu.tokens):.0f}"


def factor(value: float | None) -> str:
    """A ratio."""
    return "n/a" if value is None else f"{value:.2f}"


def percent(value: float | None) -> str:
    """A share."""
    return "n/a" if value is None else f"{value:.0%}"
