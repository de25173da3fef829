"""`python -m benchmarks`: measure, show, and write down."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.host import ROOT, describe_host
from benchmarks.plan import FULL, QUICK, Plan
from benchmarks.reply import BenchmarkError
from benchmarks.results import Results
from benchmarks.run import PARTS, Run
from benchmarks.tables.cells import Table
from benchmarks.tables.report import head_lines, markdown, tables_of
from cli.errors import CommandError

RESULTS = ROOT / "benchmarks" / "results.md"
_WIDTH = 130


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; the exit code is 0 when all that was asked for was measured."""
    asked = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    progress = Console(stderr=True)
    run = Run(QUICK if asked.quick else FULL, describe_host(arguments), progress.print)
    try:
        is_whole = uvloop.run(_until_terminated(run, asked.only or PARTS))
    except (BenchmarkError, CommandError) as error:
        progress.print(f"benchmarks: {error}", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130
    _show(run.results, console)
    if asked.output is not None:
        asked.output.write_text(markdown(run.results), "utf-8")
        progress.print(f"Written to {asked.output}.")
    return 0 if is_whole else 1


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"a short run, {_bound(QUICK)}")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="measure this part alone; may be repeated"
    )
    parser.add_argument(
        "--output", type=Path, help="where to write the report; a full run writes benchmarks/results.md"
    )
    asked = parser.parse_args(arguments)
    if asked.output is None and not asked.quick and not asked.only:
        asked.output = RESULTS
    return asked


def _bound(plan: Plan) -> str:
    return f"at most {plan.limit_s:g} s"


async def _until_terminated(run: Run, parts: Sequence[str]) -> bool:
    """A SIGTERM ends the run as Ctrl-C does: with everything it started."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run.measure(parts)


def _show(results: Results, console: Console) -> None:
    for line in head_lines(results):
        console.print(line, markup=False, highlight=False)
    for table in tables_of(results):
        console.print()
        console.print(_rich(table))
        console.print(table.note, markup=False, highlight=False)


def _rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left")
    for number, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if number else "left")
    for row in table.rows:
        shown.add_row(*row)
    return shown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
