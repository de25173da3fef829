"""Results in words: tables of text, and their Markdown. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.figures import ratio, us_per_token
from benchmarks.results import Cpu, FirstToken, Peak, Results, Streams, Throughput, Wait

FIRST_TOKEN_TARGET_MS = 25.0
DELAY_TARGET_MS = 3.0
DELAY_TARGET_STREAMS = 8
CPU_TARGET = 0.10
QUIET = 0.05
"""Others' share of the machine up to which it counts as quiet."""

_INTRODUCTION = (
    "What the gateway costs beside the bare CLI driven the same way in the same run, in turns."
    " Written by `make bench`."
)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table as it is shown; every row has as many cells as there are columns."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str


def tables_of(results: Results) -> list[Table]:
    """All tables for what was measured, in reading order."""
    tables: list[Table] = []
    is_quiet = results.others <= QUIET
    if results.first_token is not None:
        tables.append(first_token_table(results.first_token, is_quiet=is_quiet))
    if results.streams:
        tables.append(delay_table(results.streams, results.pace_ms, is_quiet=is_quiet))
        tables.append(cpu_table(results.streams))
    if results.throughput:
        tables.append(throughput_table(results.throughput))
    if results.peak != Peak():
        tables.append(peak_table(results.peak))
    return tables


def first_token_table(measured: FirstToken, *, is_quiet: bool) -> Table:
    """Time to the first text and to the end of a short reply; judged only on a quiet machine."""
    bare, gateway = measured.bare, measured.gateway
    first_ms = gateway.first_ms.p50 - bare.first_ms.p50
    return Table(
        title="Time to first token, cold process",
        columns=("ms", "bare p50", "bare p95", "gateway p50", "gateway p95", "added p50", "ratio", "target"),
        rows=[
            (
                "first token",
                *_waits(bare, gateway, "first_ms"),
                _target(
                    f"≤ bare + {FIRST_TOKEN_TARGET_MS:g}",
                    first_ms <= FIRST_TOKEN_TARGET_MS if is_quiet else None,
                ),
            ),
            ("whole reply", *_waits(bare, gateway, "total_ms"), ""),
        ],
        note=f"A reply of one word, one request at a time, {gateway.first_ms.count} a side in turns.",
    )


def delay_table(measured: Sequence[Streams], pace_ms: float, *, is_quiet: bool) -> Table:
    """Delay from the model's sending of a token to its receipt; judged only on a quiet machine."""
    rows = []
    for each in measured:
        bare, gateway = each.bare.delay_ms, each.gateway.delay_ms
        added = gateway.p50 - bare.p50
        target = ""
        if each.streams == DELAY_TARGET_STREAMS:
            target = _target(f"p50 ≤ {DELAY_TARGET_MS:g}", added <= DELAY_TARGET_MS if is_quiet else None)
        rows.append(
            (
                str(each.streams),
                _ms(bare.p50),
                _ms(bare.p99),
                _ms(gateway.p50),
                _ms(gateway.p99),
                _ms(added),
                _ms(gateway.p99 - bare.p99),
                str(gateway.count),
                target,
            )
        )
    return Table(
        title="Delay per token",
        columns=(
            *("streams", "bare p50", "bare p99", "gateway p50", "gateway p99"),
            *("added p50", "added p99", "tokens", "target"),
        ),
        rows=rows,
        note=f"Milliseconds from the model's sending of a token to its receipt by the client; "
        f"{1000 / pace_ms:g} tokens/s a stream, start-up left out.",
    )


def cpu_table(measured: Sequence[Streams]) -> Table:
    """CPU per token of every part; a share of CPU holds on a busy machine too."""
    rows = []
    for each in measured:
        bare, gateway = each.bare.cpu, each.gateway.cpu
        share = ratio(gateway.own_s, gateway.cli_s)
        rows.append(
            (
                str(each.streams),
                _us(bare, bare.cli_s),
                *(
                    _us(gateway, part)
                    for part in (gateway.cli_s, gateway.worker_s, gateway.api_s, gateway.redis_s)
                ),
                _share(share),
                _us(gateway, gateway.model_s),
                _us(bare, bare.client_s),
                _us(gateway, gateway.client_s),
                _target(f"≤ {CPU_TARGET:.0%}", share is not None and share <= CPU_TARGET),
            )
        )
    return Table(
        title="CPU per token",
        columns=(
            *("streams", "bare CLI", "CLI", "worker", "API", "Redis", "(API + worker) / CLI"),
            *("model", "bare client", "client", "target"),
        ),
        rows=rows,
        note="Microseconds; all but the columns named bare are of the gateway's windows."
        " The bare client reads the CLIs' pipes, which the gateway's worker does.",
    )


def throughput_table(measured: Sequence[Throughput]) -> Table:
    """Requests per second."""
    return Table(
        title="Requests per second, one-token reply, cold processes",
        columns=("concurrency", "slots", "requests", "bare /s", "gateway /s", "ratio"),
        rows=[
            (
                str(each.concurrency),
                str(each.slots),
                str(each.requests),
                f"{each.bare_per_s:.2f}",
                f"{each.gateway_per_s:.2f}",
                _ratio(ratio(each.gateway_per_s, each.bare_per_s)),
            )
            for each in measured
        ],
        note="A slot is free when its CLI has exited, on both sides.",
    )


def peak_table(peak: Peak) -> Table:
    """Memory."""
    mib = 1024 * 1024
    return Table(
        title="Peak resident memory, MiB",
        columns=("API", "worker"),
        rows=[(f"{peak.api_bytes / mib:.0f}", f"{peak.worker_bytes / mib:.0f}")],
        note="Over the whole run; the worker's without its CLIs.",
    )


def head_lines(results: Results) -> list[str]:
    """What was measured, and where; one fact a line."""
    host = results.host
    noise = f"other processes used {results.others:.0%} of it meanwhile"
    if results.others > QUIET:
        noise += ": too much to trust times, so they are not judged"
    return [
        f"Date: {host.date}",
        f"Commit: {host.commit}",
        f"Machine: {host.cores} cores, {host.cpu_model}; {noise}",
        f"Software: Python {host.python}, Claude CLI {host.cli}, {host.redis}",
        f"Command: `{host.command}` ({results.took_s:.0f} s)",
    ]


def markdown(results: Results) -> str:
    """The whole report as a Markdown document."""
    parts = [
        "# Benchmark results",
        _INTRODUCTION,
        "\n".join(f"- {line}" for line in head_lines(results)),
    ]
    for table in tables_of(results):
        parts += [f"## {table.title}", table_markdown(table), table.note]
    return "\n\n".join(parts) + "\n"


def table_markdown(table: Table) -> str:
    """One table in Markdown: the first column to the left, figures to the right."""
    rule = ["---", *("---:" for _ in table.columns[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (table.columns, rule, *table.rows))


def _waits(bare: Wait, gateway: Wait, what: str) -> tuple[str, ...]:
    one, other = getattr(bare, what), getattr(gateway, what)
    return (
        *(_ms(one.p50), _ms(one.p95), _ms(other.p50), _ms(other.p95)),
        _ms(other.p50 - one.p50),
        _ratio(ratio(other.p50, one.p50)),
    )


def _target(target: str, is_reached: bool | None) -> str:
    verdict = {True: "reached", False: "missed", None: "not judged"}[is_reached]
    return f"{target}: {verdict}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def _us(cpu: Cpu, part_s: float) -> str:
    return f"{us_per_token(part_s, cpu.tokens):.0f}"


def _ratio(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0%}"
