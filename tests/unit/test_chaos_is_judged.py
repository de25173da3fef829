"""The checker finds each kind of broken promise, and nothing in a history that is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chaos.check import check
from chaos.delays import across_restarts, after_kills
from chaos.history import Broken, Ended, Gathered, Gauge, History, Seen
from chaos.proxy import FaultProxy
from chaos.report import report
from chaos.steady import Sample, Steady, lines_of, slope_mb_per_h
from shared.loop_delay import LoopDelay

SEEN = Seen(
    marker="chaos-1-00000000",
    kind="stream",
    tokens=4,
    uses_tool=True,
    began=0.0,
    run_id="run_1",
    texts=["I do it.\n\n", "t0", " t1", " t2 t3"],
    ids=["2", "3.1", "3", "5"],
    arrived=[0.5, 0.6, 3.1, 3.2],
    outcome="completed",
    ended=3.3,
)
RUN = Ended(
    id="run_1",
    marker="chaos-1-00000000",
    state="completed",
    attempts=2,
    numbers=[0, 1, 2, 3],
    event_numbers=[1, 2, 3, 5, 6],
    hidden=1,
    ends=1,
    output_tokens=9,
    error="",
    model_calls=3,
    overlap_s=0.0,
    effects=1,
)
BATCH = Gathered(
    marker="chaos-2-00000000",
    tenant="one",
    lines=["a", "b"],
    id="batch_1",
    status="completed",
    total=2,
    completed=1,
    failed=1,
    outputs=["b"],
    errors=["a"],
)
GAUGE = Gauge("worker1", descriptors=(40, 60), children=(1, 2), resident_bytes=(1, 1))


def history(seen: Seen = SEEN, run: Ended | None = RUN, **more: Any) -> History:
    runs = [run] if run is not None else []
    counted = sum(run.output_tokens for run in runs)
    made = History(
        1, 1.0, requests=[seen], runs=runs, counted_output_tokens=counted, batches=[BATCH], gauges=[GAUGE]
    )
    return msgspec.structs.replace(made, **more)


def seen(**fields: Any) -> Callable[[], History]:
    return lambda: history(msgspec.structs.replace(SEEN, **fields))


def run(**fields: Any) -> Callable[[], History]:
    return lambda: history(run=msgspec.structs.replace(RUN, **fields))


def batch(**fields: Any) -> Callable[[], History]:
    return lambda: history(batches=[msgspec.structs.replace(BATCH, **fields)])


def test_a_history_that_is_well_breaks_nothing() -> None:
    assert check(history()) == []
    assert "promises not kept             0" in report(history(), [])


@pytest.mark.parametrize(
    ("promise", "forged"),
    [
        ("an accepted run is not lost", lambda: history(run=None)),
        ("nothing waits without a bound", seen(outcome="hung")),
        ("what was refused was not accepted", seen(outcome="refused")),
        ("a stream has no gap and no repeat", seen(texts=["t0", " t1", " t1", " t2 t3"])),
        ("a stream has no gap and no repeat", seen(texts=["t0", " t2 t3"], outcome="broken")),
        ("a stream says what the model said, and no more", seen(texts=["t0 t1 t2 t3 t4"])),
        ("a completed answer is whole", seen(texts=["t0 t1 t2"])),
        ("the numbers of frames rise", seen(ids=["2", "3", "3.1"])),
        ("client and record agree on the end", seen(outcome="cancelled")),
        ("client and record agree on the end", run(state="failed")),
        ("a run ends", run(state="running")),
        ("a run ends once", run(ends=2)),
        ("a run ends once", run(ends=0)),
        ("a run is started three times at most", run(attempts=4)),
        ("the numbers of events rise", run(event_numbers=[1, 2, 2])),
        ("a log has no gap and no repeat", run(numbers=[0, 1, 3])),
        ("a tool takes effect once for each start at most", run(effects=3)),
        ("the model is called for starts alone", run(model_calls=5)),
        ("nothing is left behind", lambda: history(left=["a lease"])),
        ("a request is one run", lambda: history(runs=[RUN, RUN], counted_output_tokens=18)),
        ("tenants see nothing of each other", seen(foreign=["GET /v1/runs/run_1: 200"])),
        ("tenants see nothing of each other", run(tenant="two")),
        ("an accepted batch is not lost", batch(status="")),
        ("a batch ends", batch(status="in_progress")),
        ("each line of a batch is answered once", batch(outputs=["b", "b"])),
        ("each line of a batch is answered once", batch(errors=[])),
        ("a batch counts its lines", batch(completed=2)),
        ("descriptors are given back", lambda: history(gauges=[Gauge("api1", (40, 99), (0, 0), (1, 1))])),
        ("usage is counted once", lambda: history(counted_output_tokens=18)),
    ],
)
def test_each_broken_promise_is_found(promise: str, forged: Callable[[], History]) -> None:
    found = check(forged())
    assert promise in [violation.promise for violation in found]
    assert promise in report(forged(), found)


def test_what_faults_cost_is_measured() -> None:
    """Of streams that spoke when Valkey went, and of runs that the worker that was killed had begun."""
    faults = [
        Broken("kill -9", "valkey", 0.7, 2.0, pid=3),
        Broken("kill -9", "worker1", 10.0, 1.0, pid=7),
        Broken("kill -9", "worker2", 12.0, 1.0, pid=8),
    ]
    shown = msgspec.structs.replace(RUN, workers=[7, 8], calls=[9.0, 19.5, 20.0], shown_by=[1, 2])
    silent = msgspec.structs.replace(shown, workers=[8, 9], calls=[15.0], shown_by=[2])
    made = history(faults=faults, runs=[shown, silent])
    assert across_restarts(made) == [2.5]
    assert after_kills(made) == [3.0, 9.5]
    assert after_kills(made, is_silent=True) == [3.0]


def test_growth_is_told_by_the_hour_once_it_is_warm() -> None:
    """A steep beginning does not count."""
    grown = [Sample(at, 150_000_000 + at * 1_000, 9) for at in range(2, 400, 2)]
    samples = [Sample(0, 100_000_000, 9), *grown]
    assert round(slope_mb_per_h(grown), 3) == 3.6
    assert slope_mb_per_h(samples[:1]) == 0
    told = dict(lines_of(Steady(1.0, {"api1": samples}, [0.001] * 99 + [0.5], [2.0], requests=3)))
    assert told["api1 memory"] == "+3.6 MB/h, 150 MB at the end"
    assert "p99 500.00 ms" in told["API answers to /health"]


async def test_a_loop_that_is_held_up_is_late() -> None:
    noted: list[float] = []
    delay = LoopDelay(noted.append)
    watching = asyncio.create_task(delay.run())
    await asyncio.sleep(0.05)
    time.sleep(0.6)  # noqa: ASYNC251 - it is the loop that is to be held up
    await asyncio.sleep(0.01)  # now it notices
    watching.cancel()
    assert delay.p99_ms > 150
    assert max(noted) > 0.15


def test_a_history_is_kept_as_json_lines(tmp_path: Path) -> None:
    history().write(tmp_path / "h")
    lines = [msgspec.json.decode(line) for line in (tmp_path / "h").read_bytes().splitlines()]
    assert [line["is"] for line in lines] == ["history", "request", "run", "batch", "process"]
    assert lines[1]["texts"] == SEEN.texts


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(100):
            writer.write(data)
    writer.close()


async def test_a_proxy_holds_bytes_back_in_a_stall_and_resets_in_a_cut(tmp_path: Path) -> None:
    upstream = tmp_path / "s"
    server = await asyncio.start_unix_server(_echo, str(upstream))
    async with server, FaultProxy(upstream) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        proxy.trouble("stall")
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        proxy.trouble("none")
        assert await reader.readexactly(3) == b"two"
        proxy.trouble("cut")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        again, other = await asyncio.open_connection("127.0.0.1", proxy.port)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await again.readexactly(1)
        for each in (writer, other):
            each.close()
            with suppress(ConnectionError):
                await each.wait_closed()
    await asyncio.sleep(0.05)  # for transports to notice that they are closed
