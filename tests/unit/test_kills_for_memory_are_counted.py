"""The kernel's count of kills for want of memory is read as it is written, and nothing is made of none."""

from __future__ import annotations

import pytest

from worker.memory import count_in, oom_kills


@pytest.mark.parametrize(
    ("events", "count"),
    [
        ("low 0\nhigh 4\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("", None),
        ("oom_kill many\n", None),
    ],
)
def test_the_count_is_the_kernels(events: str, count: int | None) -> None:
    assert count_in(events) == count


def test_this_host_has_a_count_or_says_nothing() -> None:
    count = oom_kills()
    assert count is None or count >= 0
