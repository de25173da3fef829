"""No decision compares the clocks of two hosts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from scripted_model import script, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, body

_AHEAD_S = 600
_SHIFTED = """
import os, time
_shift = float(os.environ["SHIFT_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1e9)
"""


@pytest.mark.parametrize("shift_s", [_AHEAD_S, -_AHEAD_S])
async def test_a_worker_whose_clock_is_wrong_works_like_others(
    new_stack: NewStack, marker: str, tmp_path: Path, shift_s: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_SHIFTED)
    stack = new_stack(workers=0, slots=2)
    stack.start_worker(environ={"PYTHONPATH": str(tmp_path), "SHIFT_S": str(shift_s)})
    await asyncio.to_thread(stack.wait_ready)
    async with stack.http() as http:
        began = time.time()
        asked = [http.post(PATH, json=body(marker, script(tokens(20, pace_ms=50)))) for _ in range(3)]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        for run in (await http.get("/v1/runs")).json()["data"]:
            assert (run["state"], run["attempts"]) == ("completed", 1)
            assert began - 1 <= run["created_at"] <= run["started_at"] <= run["ended_at"] <= time.time() + 1
