"""`backline top`: what goes on, at the terminal, over the HTTP API of any Backline."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from cyclopts import Parameter

from cli.errors import CommandError
from cli.over_http import Key, Url, answer_of, asking
from cli.tables import age, print_json, span

if TYPE_CHECKING:
    import httpx
    from rich.console import RenderableType

_COLUMNS = ("run", "state", "agent", "age", "wait", "ran", "tokens", "worker", "error")
_LEFT_OUT = ("worker", "wait", "tokens", "ran", "error", "age")
"""What a narrow terminal does without, the first first."""
_TOKENS = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens")


class Look(msgspec.Struct, frozen=True):
    """One look: the answers to `GET /stats` and `GET /v1/runs`, and when they came, in seconds."""

    at: float
    stats: dict[str, Any]
    runs: list[dict[str, Any]]


def top(
    *,
    interval: float = 2.0,
    rows: int = 15,
    once: Annotated[bool, Parameter(negative=())] = False,
    json: Annotated[bool, Parameter(negative=())] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show runs, queue, workers, slots and tokens as they change, until Ctrl-C; needs an admin's key.

    Parameters
    ----------
    interval
        Seconds from one look to the next.
    rows
        How many runs to show.
    once
        Look once, print it, and end.
    json
        Look once and print JSON.
    """
    if interval < 0.1 or not 0 <= rows <= 100:
        raise CommandError("--interval must be at least 0.1, --rows from 0 to 100.", code=2)
    with asking(url, key) as http:
        look = _look(http, rows)
        if json:
            print_json({**look.stats, "runs": look.runs})
        elif once or not sys.stdout.isatty():
            _print(look)
        else:
            with suppress(KeyboardInterrupt):
                _watch(http, look, interval, rows)


def numbers(look: Look, before: Look | None) -> list[tuple[str, str]]:
    """The figures above the runs, each with its name; rates are those since the look `before`."""
    stats, total = look.stats, look.stats["total"]
    shown = [
        ("running", str(stats["active"])),
        ("queued", str(stats["queued"])),
        ("workers", str(stats["workers"])),
        ("slots", f"{stats['active']}/{stats['slots']}"),
        ("live", str(stats["live_conversations"])),
        ("ended", f"{total['requests']} ({total['failed']} failed, {total['cancelled']} cancelled)"),
        ("tokens", f"{_tokens(total):,}"),
        ("cost", f"${total['cost_usd']:.2f}"),
    ]
    if before is not None and (passed := look.at - before.at) > 0:
        was = before.stats["total"]
        shown.append(("runs/min", f"{60 * (total['requests'] - was['requests']) / passed:.1f}"))
        shown.append(("tokens/s", f"{(_tokens(total) - _tokens(was)) / passed:.0f}"))
    return shown


def row(run: dict[str, Any]) -> tuple[str, ...]:
    """A run as a line, in the order of the columns."""
    usage, error = run["usage"] or {}, run["error"] or {}
    return (
        run["id"],
        run["state"],
        run["agent"],
        age(run["created_at"]),
        span(run["wait_s"]),
        span(run["run_s"]),
        f"{_tokens(usage):,}" if usage else "",
        run["worker"] or "",
        error.get("kind", ""),
    )


def columns(rows: Sequence[tuple[str, ...]], width: int | None) -> list[int]:
    """The columns of a table of `rows` for which there is room, by their places; all when `width` is None."""
    widths = [max(map(len, cells)) + _GAP for cells in zip(_COLUMNS, *rows, strict=True)]
    shown = list(range(len(_COLUMNS)))
    for name in _LEFT_OUT:
        if width is None or sum(widths[at] for at in shown) <= width:
            break
        shown.remove(_COLUMNS.index(name))
    return shown


def screen(look: Look, before: Look | None, width: int | None = None) -> RenderableType:
    """All that is shown of a look, in so many columns of characters: a cell is left out before it is cut."""
    from rich.console import Group  # noqa: PLC0415 - imported here so that --help is quick
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    head = Text("   ").join(
        Text.assemble((name, "dim"), " ", (value, "bold")) for name, value in numbers(look, before)
    )
    rows = [row(run) for run in look.runs]
    shown = columns(rows, width)
    table = Table(*(_COLUMNS[at] for at in shown), box=None, header_style="dim")
    for run, cells in zip(look.runs, rows, strict=True):
        table.add_row(*(Text(cells[at]) for at in shown), style=_STYLES.get(run["state"], ""))
    agents = Text(f"agents  {', '.join(look.stats['agents']) or 'none is served'}", style="dim")
    return Group(head, agents, Text(), table if look.runs else Text("No runs are known.", style="dim"))


_WIDE = 1_000
_GAP = 2
"""Between two columns: rich sets one space at each side of a cell."""
_STYLES = {"running": "green", "failed": "red", "cancelled": "yellow"}


def _watch(http: httpx.Client, look: Look, interval: float, rows: int) -> None:
    from rich.live import Live  # noqa: PLC0415 - imported here so that --help is quick

    before: Look | None = None
    with Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(screen(look, before, live.console.width), refresh=True)
            time.sleep(interval)
            before, look = look, _look(http, rows)


def _look(http: httpx.Client, rows: int) -> Look:
    stats = answer_of(http.get("/stats"))
    runs = answer_of(http.get("/v1/runs", params={"limit": str(rows)}))["data"] if rows else []
    return Look(time.monotonic(), stats, runs)


def _tokens(counts: dict[str, Any]) -> int:
    return sum(int(counts[name]) for name in _TOKENS)


def _print(look: Look) -> None:
    """Print a look: as wide as it is, that programs may read it; at a terminal, as wide as that is."""
    from rich.console import Console  # noqa: PLC0415 - imported here so that --help is quick

    console = Console(highlight=False, soft_wrap=True)
    if console.is_terminal:
        console.print(screen(look, None, console.width))
    else:
        Console(highlight=False, soft_wrap=True, width=_WIDE).print(screen(look, None))
