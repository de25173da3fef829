"""Results in words: tables of text, and their Markdown. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.figures import crossing, ratio, us_per_token
from benchmarks.results import (
    BatchRate,
    BesideBatch,
    Chats,
    Cpu,
    Dashboard,
    FirstToken,
    KeyCost,
    Memory,
    Peak,
    Results,
    Resumed,
    Seeding,
    Streams,
    Throughput,
    Wait,
)

FIRST_TOKEN_TARGET_MS = 25.0
DELAY_TARGET_MS = 3.0
DELAY_TARGET_STREAMS = 8
CPU_TARGET = 0.10
FIRST_TURN_TARGET = 0.40
NEXT_TURN_TARGET = 0.15
RESUMED_TARGET_MS = 50.0
MEMORY_TARGET_MIB = 1.0
BESIDE_BATCH_TARGET = 1.3
BATCH_RATE_TARGET = 0.9
WAITING_LINE_TARGET_BYTES = 1_000
KEY_TARGET_MS = 0.5
MANY_KEYS_TARGET_MS = 0.1
PAGE_TARGET_MS = 200.0
OPEN_PAGE_TARGET = 0.01
QUIET = 0.05
"""Others' share of the machine up to which it counts as quiet."""
_MIB = 1024 * 1024

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


def chats_table(measured: Chats, *, is_quiet: bool) -> Table:
    """First turns and next turns beside a cold start; judged only on a quiet machine."""
    cold_ms = measured.cold_ms.p50
    rows = [("bare CLI, cold", measured.cold_ms, 0.0)]
    rows += [("gateway, first turn", measured.first_ms, FIRST_TURN_TARGET)]
    rows += [("gateway, next turn", measured.next_ms, NEXT_TURN_TARGET)]
    return Table(
        title="Time to first token, warm and live processes",
        columns=("ms", "p50", "p95", "turns", "of bare cold", "target"),
        rows=[
            (
                name,
                _ms(seen.p50),
                _ms(seen.p95),
                str(seen.count),
                _ratio(ratio(seen.p50, cold_ms)),
                _target(f"≤ {target:.2f}", seen.p50 <= target * cold_ms if is_quiet else None)
                if target
                else "",
            )
            for name, seen, target in rows
        ],
        note="A cold start, then a conversation whose client sends the whole history each time, in turns."
        " A first turn finds a spare process that has been idle for a second.",
    )


def hits_table(measured: Chats) -> Table:
    """How often the live process that holds a conversation answered."""
    most = measured.turns - 1
    return Table(
        title="Prefix hits",
        columns=("turns of a chat", "hits", "target"),
        rows=[
            (
                str(measured.turns),
                str(measured.hits),
                _target(f"{most} of {measured.turns}", measured.hits >= most),
            )
        ],
        note="A hit is a turn in the session of the turn before, without a new process."
        " The first turn cannot be one.",
    )


def resumed_table(measured: Resumed, *, is_quiet: bool) -> Table:
    """A conversation whose process is gone; judged only on a quiet machine."""
    bare, gateway = measured.bare, measured.gateway
    added_ms = gateway.first_ms.p50 - bare.first_ms.p50
    return Table(
        title="Resume on another host",
        columns=("ms", "bare p50", "bare p95", "gateway p50", "gateway p95", "added p50", "ratio", "target"),
        rows=[
            (
                "first token",
                *_waits(bare, gateway, "first_ms"),
                _target(
                    f"≤ bare + {RESUMED_TARGET_MS:g}",
                    added_ms <= RESUMED_TARGET_MS if is_quiet else None,
                ),
            ),
            ("whole reply", *_waits(bare, gateway, "total_ms"), ""),
        ],
        note="The bare CLI resumes a file that holds the same turns; the gateway's worker has kept no process"
        f" and finds the conversation in Redis, as it did in {measured.hits} of {gateway.first_ms.count}"
        " turns.",
    )


def memory_table(measured: Memory) -> Table:
    """Memory of an idle live conversation: its CLI and its share of the worker."""
    kinds = [("resident", measured.bare_rss, measured.kept_rss)]
    if measured.bare_pss:
        kinds.append(("proportional", measured.bare_pss, measured.kept_pss))
    rows = []
    for name, bare, kept in kinds:
        live = kept + measured.worker_growth
        rows.append(
            (
                name,
                _mib(bare),
                _mib(kept),
                f"{measured.worker_growth / _MIB:.2f}",
                _mib(live - bare),
                _ratio(ratio(live, bare)),
                _target(f"≤ bare + {MEMORY_TARGET_MIB:g}", live - bare <= MEMORY_TARGET_MIB * _MIB),
            )
        )
    return Table(
        title="Memory of an idle live session, MiB",
        columns=("size", "bare CLI", "kept CLI", "worker, each", "added", "ratio", "target"),
        rows=rows,
        note=f"After {measured.turns} turns, medians of {measured.bare_count} bare CLIs that were kept open"
        f" and of {measured.kept_count} that the worker keeps; and what the worker itself grew by for each.",
    )


def seeding_table(measured: Sequence[Seeding]) -> Table:
    """Two ways to give a history to a CLI, and where the second becomes the faster one."""
    crossed = crossing([(float(each.turns), each.seeded_ms.p50, each.resumed_ms.p50) for each in measured])
    said = "at no length that was tried" if crossed is None else f"beyond {crossed:.0f} turns"
    return Table(
        title="Histories the server does not know",
        columns=("turns", "seeded p50", "seeded p95", "resumed p50", "resumed p95", "ratio"),
        rows=[
            (
                str(each.turns),
                _ms(each.seeded_ms.p50),
                _ms(each.seeded_ms.p95),
                _ms(each.resumed_ms.p50),
                _ms(each.resumed_ms.p95),
                _ratio(ratio(each.seeded_ms.p50, each.resumed_ms.p50)),
            )
            for each in measured
        ],
        note="Milliseconds to the first token, in the CLI alone: told to a spare process turn by turn, or"
        f" resumed by a new one from a transcript. Resuming is faster {said}.",
    )


def beside_batch_table(measured: BesideBatch, *, is_quiet: bool) -> Table:
    """A request while a batch runs, and while nothing does; judged only on a quiet machine."""
    idle, beside = measured.idle_ms, measured.beside_ms
    is_reached = beside.p50 <= BESIDE_BATCH_TARGET * idle.p50 if is_quiet else None
    return Table(
        title="Time to first token beside a batch",
        columns=("lines", "idle p50", "idle p95", "beside p50", "beside p95", "added p50", "ratio", "target"),
        rows=[
            (
                str(measured.lines),
                *(_ms(idle.p50), _ms(idle.p95), _ms(beside.p50), _ms(beside.p95)),
                _ms(beside.p50 - idle.p50),
                _ratio(ratio(beside.p50, idle.p50)),
                _target(f"≤ idle + {BESIDE_BATCH_TARGET - 1:.0%}", is_reached),
            )
        ],
        note=f"Milliseconds of one request at a time from a cold process, {beside.count} each. The batch's"
        " lines take all slots that they may, and the model some seconds for each.",
    )


def batch_rate_table(measured: BatchRate, *, is_quiet: bool) -> Table:
    """Lines per second; judged only on a quiet machine."""
    share = ratio(measured.batch_per_s, measured.bare_per_s)
    is_reached = share is not None and share >= BATCH_RATE_TARGET
    return Table(
        title="Lines of a batch per second, one-token reply",
        columns=("slots", "lines", "bare /s", "batch /s", "ratio", "target"),
        rows=[
            (
                str(measured.slots),
                str(measured.lines),
                f"{measured.bare_per_s:.2f}",
                f"{measured.batch_per_s:.2f}",
                _ratio(share),
                _target(f"≥ {BATCH_RATE_TARGET:g}", is_reached if is_quiet else None),
            )
        ],
        note="From the batch's creation to its files, beside bare CLIs on the slots that a batch may take.",
    )


def waiting_line_table(measured: BesideBatch) -> Table:
    """What a line that waits weighs."""
    return Table(
        title="Redis memory per waiting line of a batch, bytes",
        columns=("lines", "the line itself", "in Redis", "target"),
        rows=[
            (
                str(measured.lines),
                f"{measured.line_bytes:.0f}",
                f"{measured.redis_bytes:.0f}",
                _target(f"≤ {WAITING_LINE_TARGET_BYTES}", measured.redis_bytes <= WAITING_LINE_TARGET_BYTES),
            )
        ],
        note="Lines wait in their file; what Redis has for those under way is included.",
    )


def key_cost_table(measured: KeyCost, *, is_quiet: bool) -> Table:
    """What a key adds to an answer; judged only on a quiet machine."""
    one = _target(f"added ≤ {KEY_TARGET_MS:g}", measured.added_ms <= KEY_TARGET_MS if is_quiet else None)
    many = _target(
        f"added ≤ {MANY_KEYS_TARGET_MS:g}",
        measured.added_by_many_ms <= MANY_KEYS_TARGET_MS if is_quiet else None,
    )
    rows = [
        ("without keys", measured.without, "", ""),
        ("the only key", measured.one, _ms(measured.added_ms), one),
        (f"one of {measured.keys}", measured.many, _ms(measured.added_by_many_ms), many),
        ("another each time", measured.others, "", ""),
    ]
    return Table(
        title="Cost of a key and its limits",
        columns=("ms", "p50", "p95", "added p50", "CPU p50", "requests", "target"),
        rows=[
            (
                *(name, _ms(seen.took_ms.p50), _ms(seen.took_ms.p95), added, _ms(seen.cpu_ms.p50)),
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
                *(_ms(served.p50), _ms(served.p95)),
                *(("n/a", "n/a") if painted is None else (_ms(painted.p50), _ms(painted.p95))),
                _target(f"≤ {PAGE_TARGET_MS:g}", is_reached),
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
                _target(f"≤ {OPEN_PAGE_TARGET:.0%}", is_reached),
            )
        ],
        note="The overview is the page that asks most: figures every two seconds, plots every ten.",
    )


def peak_table(peak: Peak) -> Table:
    """Memory."""
    return Table(
        title="Peak resident memory, MiB",
        columns=("API", "worker"),
        rows=[(f"{peak.api_bytes / _MIB:.0f}", f"{peak.worker_bytes / _MIB:.0f}")],
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


def _mib(size: float) -> str:
    return f"{size / _MIB:.1f}"


def _us(cpu: Cpu, part_s: float) -> str:
    return f"{us_per_token(part_s, cpu.tokens):.0f}"


def _ratio(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0%}"
