"""The whole report: the tables of all that was measured, and where it was."""

from __future__ import annotations

from benchmarks.results import Peak, Results
from benchmarks.tables.batches import batch_rate_table, beside_batch_table, waiting_line_table
from benchmarks.tables.cells import Table, table_markdown
from benchmarks.tables.service import key_cost_table, open_page_table, pages_table, peak_table
from benchmarks.tables.sessions import chats_table, hits_table, memory_table, resumed_table, seeding_table
from benchmarks.tables.turns import cpu_table, delay_table, first_token_table, throughput_table

QUIET = 0.05
"""Others' share of the machine up to which it counts as quiet."""

_INTRODUCTION = (
    "What the gateway costs beside the bare CLI driven the same way in the same run, in turns."
    " Written by `make bench`."
)


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
    if results.chats is not None:
        tables.append(chats_table(results.chats, is_quiet=is_quiet))
        tables.append(hits_table(results.chats))
    if results.resumed is not None:
        tables.append(resumed_table(results.resumed, is_quiet=is_quiet))
    if results.memory is not None:
        tables.append(memory_table(results.memory))
    if results.seeding:
        tables.append(seeding_table(results.seeding))
    tables += _batch_tables(results, is_quiet=is_quiet)
    if results.key_cost is not None:
        tables.append(key_cost_table(results.key_cost, is_quiet=is_quiet))
    tables += _dashboard_tables(results, is_quiet=is_quiet)
    if results.peak != Peak():
        tables.append(peak_table(results.peak))
    return tables


def _batch_tables(results: Results, *, is_quiet: bool) -> list[Table]:
    tables: list[Table] = []
    if results.beside_batch is not None:
        tables.append(beside_batch_table(results.beside_batch, is_quiet=is_quiet))
    if results.batch_rate is not None:
        tables.append(batch_rate_table(results.batch_rate, is_quiet=is_quiet))
    if results.beside_batch is not None:
        tables.append(waiting_line_table(results.beside_batch))
    return tables


def _dashboard_tables(results: Results, *, is_quiet: bool) -> list[Table]:
    if results.dashboard is None:
        return []
    return [pages_table(results.dashboard, is_quiet=is_quiet), open_page_table(results.dashboard)]


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
