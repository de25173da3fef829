from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import crossing, hits, percentile, ratio, spread, us_per_token
from benchmarks.results import (
    Asked,
    BatchRate,
    BesideBatch,
    Chats,
    Cpu,
    Dashboard,
    FirstToken,
    Host,
    KeyCost,
    Memory,
    PageCost,
    Peak,
    Results,
    Resumed,
    Seeding,
    Streaming,
    Streams,
    Throughput,
    Wait,
)
from benchmarks.tables.batches import batch_rate_table, beside_batch_table, waiting_line_table
from benchmarks.tables.cells import table_markdown
from benchmarks.tables.report import markdown, tables_of
from benchmarks.tables.service import key_cost_table, open_page_table, pages_table
from benchmarks.tables.sessions import chats_table, hits_table, memory_table, resumed_table, seeding_table
from benchmarks.tables.turns import cpu_table, delay_table, first_token_table, throughput_table

HOST = Host(
    date="2026-01-02 03:04 UTC",
    commit="abc",
    cpu_model="A CPU",
    cores=2,
    python="3.11.0",
    cli="2.1.0",
    redis="Valkey 9",
    command="python -m benchmarks",
)
MIB = 1024 * 1024


def wait(first_ms: float, total_ms: float) -> Wait:
    return Wait(first_ms=spread([first_ms]), total_ms=spread([total_ms]))


def streams(count: int, *, bare_ms: float, gateway_ms: float, own_s: float, cli_s: float = 1.0) -> Streams:
    return Streams(
        streams=count,
        bare=Streaming(delay_ms=spread([bare_ms]), cpu=Cpu(tokens=1000, cli_s=cli_s, client_s=0.02)),
        gateway=Streaming(
            delay_ms=spread([gateway_ms]),
            cpu=Cpu(tokens=1000, cli_s=cli_s, worker_s=own_s / 2, api_s=own_s / 2, redis_s=0.01),
        ),
    )


def chats(*, first_ms: float = 150.0, next_ms: float = 40.0, hit: int = 19) -> Chats:
    return Chats(
        cold_ms=spread([400.0]),
        first_ms=spread([first_ms]),
        next_ms=spread([next_ms]),
        hits=hit,
        turns=20,
    )


def memory(*, kept_rss: float = 200.0, bare_pss: float = 120.0, growth: float = 0.5) -> Memory:
    return Memory(
        turns=6,
        bare_count=4,
        kept_count=16,
        bare_rss=200.0 * MIB,
        kept_rss=kept_rss * MIB,
        bare_pss=bare_pss * MIB,
        kept_pss=120.0 * MIB,
        worker_growth=growth * MIB,
    )


def seeding(turns: int, seeded_ms: float, resumed_ms: float) -> Seeding:
    return Seeding(turns=turns, seeded_ms=spread([seeded_ms]), resumed_ms=spread([resumed_ms]))


def beside_batch(beside_ms: float, *, redis_bytes: float = 40.0) -> BesideBatch:
    return BesideBatch(
        lines=5_000,
        idle_ms=spread([300.0]),
        beside_ms=spread([beside_ms]),
        line_bytes=250.0,
        redis_bytes=redis_bytes,
    )


def dashboard(painted_ms: float | None, open_cpu: float | None = 0.005) -> Dashboard:
    page = PageCost(
        name="the newest",
        rows=50,
        size_bytes=40_960,
        served_ms=spread([20.0]),
        painted_ms=None if painted_ms is None else spread([painted_ms]),
    )
    return Dashboard(runs=1_000, pages=[page], idle_s=20.0, closed_cpu=0.003, open_cpu=open_cpu)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 99, 7.0),
        ([1.0, 3.0], 50, 2.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.5),
        ([0.0, 10.0], 95, 9.5),
        ([1.0, 2.0, 3.0], 0, 1.0),
        ([1.0, 2.0, 3.0], 100, 3.0),
    ],
)
def test_a_percentile_lies_on_the_line_between_its_neighbours(
    values: list[float], percent: float, expected: float
) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_percentiles_are_in_order_and_within_the_values(values: list[float]) -> None:
    summed = spread(values)
    assert summed.count == len(values)
    slack = 1e-6
    assert min(values) - slack <= summed.p50 <= summed.p95 + slack
    assert summed.p95 <= summed.p99 + slack <= max(values) + 2 * slack


def test_a_ratio_to_nothing_says_nothing() -> None:
    assert ratio(1.0, 4.0) == 0.25
    assert ratio(1.0, 0.0) is None


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], None),
        ([(2, 1, 3), (6, 2, 3)], None),
        ([(2, 1, 3), (6, 5, 3)], 4.0),
        ([(2, 4, 3), (6, 5, 3)], 2.0),
        ([(2, 4, 3), (6, 2, 3), (10, 4, 3)], 8.0),
        ([(2, 3, 3), (6, 5, 3)], 2.0),
    ],
)
def test_lines_cross_where_the_first_comes_to_stay_above(
    points: list[tuple[float, float, float]], expected: float | None
) -> None:
    assert crossing(points) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([], 0),
        ([("a", {1, 2})], 0),
        ([("a", {1, 2}), ("a", {1, 2}), ("a", {1})], 2),
        ([("a", {1}), ("b", {1})], 0),
        ([("a", {1}), ("a", {2})], 0),
        ([("a", {1}), ("a", {1, 2}), ("a", {1, 2})], 1),
        ([("", {1}), ("", {1})], 0),
    ],
)
def test_a_hit_is_the_same_session_without_a_new_process(
    turns: list[tuple[str, set[int]]], expected: int
) -> None:
    assert hits([(session, frozenset(pids)) for session, pids in turns]) == expected


def test_cpu_per_token_is_in_microseconds_and_zero_without_tokens() -> None:
    assert us_per_token(0.5, 1000) == pytest.approx(500)
    assert us_per_token(0.5, 0) == 0


def test_cpu_of_two_windows_adds_up() -> None:
    both = Cpu(tokens=10, cli_s=1.0, api_s=0.5) + Cpu(tokens=5, cli_s=0.5, worker_s=0.25)
    assert both == Cpu(tokens=15, cli_s=1.5, api_s=0.5, worker_s=0.25)
    assert both.own_s == 0.75


def test_the_higher_peak_stays() -> None:
    assert Peak(api_bytes=3, worker_bytes=1) | Peak(api_bytes=2, worker_bytes=5) == Peak(3, 5)


@pytest.mark.parametrize(("gateway_ms", "said"), [(324.0, "reached"), (326.0, "missed")])
def test_the_first_token_may_come_25_ms_later(gateway_ms: float, said: str) -> None:
    first, whole = first_token_table(
        FirstToken(bare=wait(300.0, 310.0), gateway=wait(gateway_ms, 340.0)), is_quiet=True
    ).rows
    assert first[-1] == f"≤ bare + 25: {said}"
    assert whole[:-1] == ("whole reply", "310", "310", "340", "340", "30.00", "1.10")


@pytest.mark.parametrize(("gateway_ms", "said"), [(3.4, "reached"), (3.6, "missed")])
def test_the_delay_target_is_for_eight_streams(gateway_ms: float, said: str) -> None:
    measured = [streams(count, bare_ms=0.5, gateway_ms=gateway_ms, own_s=0.1) for count in (1, 8)]
    one, eight = delay_table(measured, 20.0, is_quiet=True).rows
    assert one[-1] == ""
    assert eight[0] == "8"
    assert eight[-1] == f"p50 ≤ 3: {said}"


@pytest.mark.parametrize(("own_s", "said"), [(0.1, "10% ≤ 10%: reached"), (0.2, "20% ≤ 10%: missed")])
def test_our_own_cpu_is_measured_against_the_cli(own_s: float, said: str) -> None:
    (row,) = cpu_table([streams(8, bare_ms=1.0, gateway_ms=1.0, own_s=own_s)]).rows
    assert f"{row[6]} {row[-1]}" == said


def test_throughput_is_a_ratio_to_the_bare_cli() -> None:
    measured = Throughput(concurrency=8, slots=4, requests=16, bare_per_s=4.0, gateway_per_s=3.0)
    assert throughput_table([measured]).rows == [("8", "4", "16", "4.00", "3.00", "0.75")]


@pytest.mark.parametrize(
    ("first_ms", "next_ms", "said"),
    [
        (160.0, 60.0, ["≤ 0.40: reached", "≤ 0.15: reached"]),
        (164.0, 64.0, ["≤ 0.40: missed", "≤ 0.15: missed"]),
    ],
)
def test_warm_and_live_turns_are_measured_against_a_cold_start(
    first_ms: float, next_ms: float, said: list[str]
) -> None:
    cold, first, later = chats_table(chats(first_ms=first_ms, next_ms=next_ms), is_quiet=True).rows
    assert (cold[-2], cold[-1]) == ("1.00", "")
    assert [first[-1], later[-1]] == said


@pytest.mark.parametrize(("hit", "said"), [(19, "reached"), (18, "missed")])
def test_all_turns_but_the_first_should_hit(hit: int, said: str) -> None:
    assert hits_table(chats(hit=hit)).rows == [("20", str(hit), f"19 of 20: {said}")]


@pytest.mark.parametrize(("gateway_ms", "said"), [(449.0, "reached"), (451.0, "missed")])
def test_resuming_elsewhere_may_take_50_ms_longer(gateway_ms: float, said: str) -> None:
    measured = Resumed(bare=wait(400.0, 410.0), gateway=wait(gateway_ms, 500.0), hits=1)
    table = resumed_table(measured, is_quiet=True)
    assert table.rows[0][-1] == f"≤ bare + 50: {said}"
    assert "in 1 of 1 turns" in table.note


@pytest.mark.parametrize(
    ("kept_rss", "growth", "said"),
    [
        (200.0, 1.0, "1.0 1.00 ≤ bare + 1: reached"),
        (200.5, 0.7, "1.2 1.01 ≤ bare + 1: missed"),
        (190.0, 0.5, "-9.5 0.95 ≤ bare + 1: reached"),
    ],
)
def test_a_live_session_is_its_cli_and_its_share_of_the_worker(
    kept_rss: float, growth: float, said: str
) -> None:
    resident, proportional = memory_table(memory(kept_rss=kept_rss, growth=growth)).rows
    assert " ".join(resident[-3:]) == said
    assert proportional[:3] == ("proportional", "120.0", "120.0")


def test_a_system_that_tells_no_proportional_size_has_no_row_for_it() -> None:
    assert [row[0] for row in memory_table(memory(bare_pss=0.0)).rows] == ["resident"]


@pytest.mark.parametrize(
    ("longest_ms", "said"), [(600.0, "faster beyond 30 turns"), (300.0, "faster at no length")]
)
def test_the_report_says_from_where_a_transcript_is_faster(longest_ms: float, said: str) -> None:
    table = seeding_table([seeding(20, 300.0, 400.0), seeding(40, longest_ms, 500.0)])
    assert said in table.note
    assert table.rows[0] == ("20", "300", "300", "400", "400", "0.75")


@pytest.mark.parametrize(("beside_ms", "said"), [(389.0, "reached"), (391.0, "missed")])
def test_a_request_beside_a_batch_may_take_a_third_longer_at_most(beside_ms: float, said: str) -> None:
    (row,) = beside_batch_table(beside_batch(beside_ms), is_quiet=True).rows
    assert row[-1] == f"≤ idle + 30%: {said}"


@pytest.mark.parametrize(("per_s", "said"), [(1.81, "reached"), (1.79, "missed")])
def test_a_batch_is_nearly_as_fast_as_bare_clis(per_s: float, said: str) -> None:
    measured = BatchRate(lines=48, slots=6, bare_per_s=2.0, batch_per_s=per_s)
    assert batch_rate_table(measured, is_quiet=True).rows[0][-1] == f"≥ 0.9: {said}"


@pytest.mark.parametrize(("size", "said"), [(40.0, "reached"), (1_001.0, "missed")])
def test_a_waiting_line_has_its_bound(size: float, said: str) -> None:
    (row,) = waiting_line_table(beside_batch(300.0, redis_bytes=size)).rows
    assert row == ("5000", "250", f"{size:.0f}", f"≤ 1000: {said}")


def test_what_was_not_measured_has_no_table() -> None:
    assert tables_of(Results(host=HOST, took_s=1.0, pace_ms=20.0)) == []


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (0.02, "A CPU; other processes used 2% of it meanwhile\n"),
        (0.2, "used 20% of it meanwhile: too much to trust times, so they are not judged\n"),
    ],
)
def test_the_report_says_when_the_machine_was_not_quiet(others: float, said: str) -> None:
    assert said in markdown(Results(host=HOST, took_s=1.0, pace_ms=20.0, others=others))


def test_times_are_not_judged_on_a_busy_machine_and_shares_of_cpu_are() -> None:
    measured = Results(
        host=HOST,
        took_s=1.0,
        pace_ms=20.0,
        others=0.3,
        first_token=FirstToken(bare=wait(300.0, 310.0), gateway=wait(200.0, 210.0)),
        streams=[streams(8, bare_ms=0.5, gateway_ms=1.5, own_s=0.1)],
        chats=chats(),
        resumed=Resumed(bare=wait(400.0, 410.0), gateway=wait(410.0, 420.0), hits=1),
        memory=memory(),
        beside_batch=beside_batch(300.0),
        batch_rate=BatchRate(lines=48, slots=6, bare_per_s=2.0, batch_per_s=2.0),
    )
    verdicts = [table.rows[-1][-1] or table.rows[0][-1] for table in tables_of(measured)]
    assert verdicts == [
        "≤ bare + 25: not judged",
        "p50 ≤ 3: not judged",
        "≤ 10%: reached",
        "≤ 0.15: not judged",
        "19 of 20: reached",
        "≤ bare + 50: not judged",
        "≤ bare + 1: reached",
        "≤ idle + 30%: not judged",
        "≥ 0.9: not judged",
        "≤ 1000: reached",
    ]


@pytest.mark.parametrize(
    ("painted_ms", "open_cpu", "is_quiet", "verdicts"),
    [
        (150.0, 0.005, True, ["≤ 200: reached", "≤ 1%: reached"]),
        (250.0, 0.02, True, ["≤ 200: missed", "≤ 1%: missed"]),
        (250.0, 0.02, False, ["≤ 200: not judged", "≤ 1%: missed"]),
        (None, None, True, ["≤ 200: not judged", "≤ 1%: not judged"]),
    ],
)
def test_the_dashboard_is_judged_by_what_a_browser_saw(
    painted_ms: float | None, open_cpu: float | None, *, is_quiet: bool, verdicts: list[str]
) -> None:
    measured = dashboard(painted_ms, open_cpu)
    tables = (pages_table(measured, is_quiet=is_quiet), open_page_table(measured))
    assert [table.rows[0][-1] for table in tables] == verdicts


def test_the_report_says_what_was_measured_where_and_every_row_is_whole() -> None:
    results = Results(
        host=HOST,
        took_s=12.0,
        pace_ms=20.0,
        first_token=FirstToken(bare=wait(300.0, 310.0), gateway=wait(310.0, 320.0)),
        streams=[streams(8, bare_ms=0.5, gateway_ms=1.5, own_s=0.1)],
        throughput=[Throughput(concurrency=1, slots=4, requests=5, bare_per_s=3.0, gateway_per_s=2.9)],
        chats=chats(),
        memory=memory(),
        resumed=Resumed(bare=wait(400.0, 410.0), gateway=wait(410.0, 420.0), hits=1),
        seeding=[seeding(2, 150.0, 400.0), seeding(40, 500.0, 450.0)],
        beside_batch=beside_batch(300.0),
        batch_rate=BatchRate(lines=48, slots=6, bare_per_s=2.0, batch_per_s=2.0),
        dashboard=dashboard(150.0),
        peak=Peak(api_bytes=64 * MIB, worker_bytes=32 * MIB),
    )
    report = markdown(results)
    assert all(f"- {said}" in report for said in ("Date: 2026-01-02", "Commit: abc", "Machine: 2 cores"))
    assert "- Command: `python -m benchmarks` (12 s)" in report
    tables = tables_of(results)
    assert len(tables) == 15
    for table in tables:
        assert table_markdown(table) in report
        assert {len(row) for row in table.rows} == {len(table.columns)}


@pytest.mark.parametrize(
    ("one", "many", "is_quiet", "verdicts"),
    [
        (0.4, 0.05, True, ["", "added ≤ 0.5: reached", "added ≤ 0.1: reached", ""]),
        (0.6, 0.3, True, ["", "added ≤ 0.5: missed", "added ≤ 0.1: missed", ""]),
        (0.6, 0.3, False, ["", "added ≤ 0.5: not judged", "added ≤ 0.1: not judged", ""]),
    ],
)
def test_what_a_key_adds_is_judged(one: float, many: float, *, is_quiet: bool, verdicts: list[str]) -> None:
    asked = [Asked(spread([3.0]), spread([1.0]))] * 4
    table = key_cost_table(KeyCost(10_000, one, many, *asked), is_quiet=is_quiet)
    assert [row[-1] for row in table.rows] == verdicts
    assert [row[0] for row in table.rows][2] == "one of 10000"
