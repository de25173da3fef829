"""Tables of single turns: first token, delay, CPU, requests per second."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import ratio
from benchmarks.results import FirstToken, Streams, Throughput
from benchmarks.tables.cells import Table, factor, judged, ms, percent, us, waits

FIRST_TOKEN_TARGET_MS = 25.0
DELAY_TARGET_MS = 3.0
DELAY_TARGET_STREAMS = 8
CPU_TARGET = 0.10


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
                *waits(bare, gateway, "first_ms"),
                judged(
                    f"≤ bare + {FIRST_TOKEN_TARGET_MS:g}",
                    first_ms <= FIRST_TOKEN_TARGET_MS if is_quiet else None,
                ),
            ),
            ("whole reply", *waits(bare, gateway, "total_ms"), ""),
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
            target = judged(f"p50 ≤ {DELAY_TARGET_MS:g}", added <= DELAY_TARGET_MS if is_quiet else None)
        rows.append(
            (
                str(each.streams),
                ms(bare.p50),
                ms(bare.p99),
                ms(gateway.p50),
                ms(gateway.p99),
                ms(added),
                ms(gateway.p99 - bare.p99),
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
                us(bare, bare.cli_s),
                *(
                    us(gateway, part)
                    for part in (gateway.cli_s, gateway.worker_s, gateway.api_s, gateway.redis_s)
                ),
                percent(share),
                us(gateway, gateway.model_s),
                us(bare, bare.client_s),
                us(gateway, gateway.client_s),
                judged(f"≤ {CPU_TARGET:.0%}", share is not None and share <= CPU_TARGET),
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
                factor(ratio(each.gateway_per_s, each.bare_per_s)),
            )
            for each in measured
        ],
        note="A slot is free when its CLI has exited, on both sides.",
    )
