"""No decision compares the clocks of two hosts."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from scripted_model import script, tokens
from tests.conftest import NewStack
from tests.support.asking import PATH, body

_SHIFT_S = 600
_SHIFTED = """
import os, time
_shift = float(os.environ["SHIFT_S"])
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1e9)
"""


async def test_workers_whose_clocks_are_wrong_work_like_others(
    new_stack: NewStack, marker: str, tmp_path: Path
) -> None:
    """One is ahead, the other behind."""
    (tmp_path / "sitecustomize.py").write_text(_SHIFTED)
    stack = new_stack(workers=0, slots=1)
    for shift_s in (_SHIFT_S, -_SHIFT_S):
        stack.start_worker(environ={"PYTHONPATH": str(tmp_path), "SHIFT_S": str(shift_s)})
    await asyncio.to_thread(stack.wait_ready, 2)
    async with stack.http() as http:
        began = time.time()
        asked = [http.post(PATH, json=body(marker, script(tokens(20, pace_ms=50)))) for _ in range(4)]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        runs = (await http.get("/v1/runs")).json()["data"]
    assert len({run["worker"] for run in runs}) == 2
    for run in runs:
        assert (run["state"], run["attempts"]) == ("completed", 1)
        assert began - 1 <= run["created_at"] <= run["started_at"] <= run["ended_at"] <= time.time() + 1
