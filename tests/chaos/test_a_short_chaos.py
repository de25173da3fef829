"""A quarter of a minute of `backline chaos`, by a seed; the command runs it for as long as one likes."""

from __future__ import annotations

import asyncio

import pytest

from chaos.check import check
from chaos.report import report
from chaos.soak import Plan, soak
from chaos.stand import Programs

SHORT = Plan(seed=11, minutes=0.2, clients=4, every_s=(0.3, 1.0), longest_s=4.0)


@pytest.mark.timeout(150)
async def test_no_promise_is_broken_by_a_few_faults(parts: Programs) -> None:
    history = await asyncio.wait_for(soak(SHORT, parts, lambda _: None), 140)
    violations = check(history)
    assert not violations, report(history, violations)
    assert history.faults
    assert any(seen.outcome == "completed" for seen in history.requests)
    assert {run.marker for run in history.runs} <= {seen.marker for seen in history.requests}
