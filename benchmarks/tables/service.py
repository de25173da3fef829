"""Tables of what stands around the turns: keys, the dashboard, memory."""

from __future__ import annotations

from benchmarks.results import Dashboard, KeyCost, Peak
from benchmarks.tables.cells import MIB, Table, judged, ms

KEY_TARGET_MS = 0.5
MANY_KEYS_TARGET_MS = 0.1
PAGE_TARGET_MS = 200.0
OPEN_PAGE_TARGET = 0.01


def key_cost_table(measured: KeyCost, *, is_quiet: bool) -> Table:
    """What a key adds to an answer; judged only on a quiet machine."""
    one = judged(f"added ≤ {KEY_TARGET_MS:g}", measured.added_ms <= KEY_TARGET_MS if is_quiet else None)
    many = judged(
        f"added ≤ {MANY_KEYS_TARGET_MS:g}",
        measured.added_by_many_ms <= MANY_KEYS_TARGET_MS if is_quiet else None,
    )
    rows = [
        ("without keys", measured.without, "", ""),
        ("the only key", measured.one, ms(measured.added_ms), one),
        (f"one of {measured.keys}", measured.many, ms(measured.added_by_many_ms), many),
        ("another each time", measured.others, "", ""),
    ]
    return Table(
        title="Cost of a key and its limits",
        columns=("ms", "p50", "p95", "added p50", "CPU p50", "requests", "target"),
        rows=[
            (
                *(name, ms(seen.took_ms.p50), ms(seen.took_ms.p95), added, ms(seen.cpu_ms.p50)),
                *(str(seen.took_ms.count), verdict),
            )
            for name, seen, added, verdict in rows
        ],
        note="Answers from the cache, one at a time and in turns, each key with all limits. Added: to the row"
        " before, the median over pairs. CPU: of API and Redis, which tells more on a busy machine. A key"
        " that an API has met within a second is not looked up again; another each time always is.",
    )


def pages_table(measured: Dashboard, *, is_quiet: bool) -> Table:
    """Pages of a long list; judged only on a quiet machine, by what a reader waits for."""
    rows = []
    for page in measured.pages:
        served, painted = page.served_ms, page.painted_ms
        is_reached = painted.p50 <= PAGE_TARGET_MS if painted is not None and is_quiet else None
        rows.append(
            (
                *(page.name, str(page.rows), f"{page.size_bytes / 1024:.0f}"),
                *(ms(served.p50), ms(served.p95)),
                *(("n/a", "n/a") if painted is None else (ms(painted.p50), ms(painted.p95))),
                judged(f"≤ {PAGE_TARGET_MS:g}", is_reached),
            )
        )
    return Table(
        title=f"The dashboard's page of {measured.runs:,} runs, ms",
        columns=("page", "rows", "KiB", "served p50", "p95", "painted p50", "p95", "target"),
        rows=rows,
        note="From the request to the last byte, and to the frame in which Chromium shows it, with styles and"
        " scripts. A page has 50 rows at most. Under a filter that none meets all runs are looked at.",
    )


def open_page_table(measured: Dashboard) -> Table:
    """What watching costs. CPU time, which other processes hardly change."""
    share = measured.open_cpu
    is_reached = None if share is None else share <= OPEN_PAGE_TARGET
    return Table(
        title="CPU of an idle API, share of one core",
        columns=("s", "no page open", "the overview open", "target"),
        rows=[
            (
                f"{measured.idle_s:g}",
                f"{measured.closed_cpu:.2%}",
                "n/a" if share is None else f"{share:.2%}",
                judged(f"≤ {OPEN_PAGE_TARGET:.0%}", is_reached),
            )
        ],
        note="The overview is the page that asks most: figures every two seconds, plots every ten.",
    )


def peak_table(peak: Peak) -> Table:
    """Memory."""
    return Table(
        title="Peak resident memory, MiB",
        columns=("API", "worker"),
        rows=[(f"{peak.api_bytes / MIB:.0f}", f"{peak.worker_bytes / MIB:.0f}")],
        note="Over the whole run; the worker's without its CLIs.",
    )
