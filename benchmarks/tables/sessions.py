"""Tables of conversations: warm, live, resumed, seeded, and what they weigh."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import crossing, ratio
from benchmarks.results import Chats, Memory, Resumed, Seeding
from benchmarks.tables.cells import MIB, Table, factor, judged, mib, ms, waits

FIRST_TURN_TARGET = 0.40
NEXT_TURN_TARGET = 0.15
RESUMED_TARGET_MS = 50.0
MEMORY_TARGET_MIB = 1.0


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
                ms(seen.p50),
                ms(seen.p95),
                str(seen.count),
                factor(ratio(seen.p50, cold_ms)),
                judged(f"≤ {target:.2f}", seen.p50 <= target * cold_ms if is_quiet else None)
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
                judged(f"{most} of {measured.turns}", measured.hits >= most),
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
                *waits(bare, gateway, "first_ms"),
                judged(
                    f"≤ bare + {RESUMED_TARGET_MS:g}",
                    added_ms <= RESUMED_TARGET_MS if is_quiet else None,
                ),
            ),
            ("whole reply", *waits(bare, gateway, "total_ms"), ""),
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
                mib(bare),
                mib(kept),
                f"{measured.worker_growth / MIB:.2f}",
                mib(live - bare),
                factor(ratio(live, bare)),
                judged(f"≤ bare + {MEMORY_TARGET_MIB:g}", live - bare <= MEMORY_TARGET_MIB * MIB),
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
                ms(each.seeded_ms.p50),
                ms(each.seeded_ms.p95),
                ms(each.resumed_ms.p50),
                ms(each.resumed_ms.p95),
                factor(ratio(each.seeded_ms.p50, each.resumed_ms.p50)),
            )
            for each in measured
        ],
        note="Milliseconds to the first token, in the CLI alone: told to a spare process turn by turn, or"
        f" resumed by a new one from a transcript. Resuming is faster {said}.",
    )
