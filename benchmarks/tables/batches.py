"""Tables of batches, and of a request beside one."""

from __future__ import annotations

from benchmarks.figures import ratio
from benchmarks.results import BatchRate, BesideBatch
from benchmarks.tables.cells import Table, factor, judged, ms

BESIDE_BATCH_TARGET = 1.3
BATCH_RATE_TARGET = 0.9
WAITING_LINE_TARGET_BYTES = 1_000


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
                *(ms(idle.p50), ms(idle.p95), ms(beside.p50), ms(beside.p95)),
                ms(beside.p50 - idle.p50),
                factor(ratio(beside.p50, idle.p50)),
                judged(f"≤ idle + {BESIDE_BATCH_TARGET - 1:.0%}", is_reached),
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
                factor(share),
                judged(f"≥ {BATCH_RATE_TARGET:g}", is_reached if is_quiet else None),
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
                judged(f"≤ {WAITING_LINE_TARGET_BYTES}", measured.redis_bytes <= WAITING_LINE_TARGET_BYTES),
            )
        ],
        note="Lines wait in their file; what Redis has for those under way is included.",
    )
