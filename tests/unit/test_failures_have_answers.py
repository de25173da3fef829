"""Every way in which a run fails has an answer of its own."""

from __future__ import annotations

import pytest

from api.errors import _ANSWERS, cancelled, failed
from shared.run_events import ErrorKind, RunCancelled, RunError


def test_every_way_to_fail_has_its_answer() -> None:
    assert set(_ANSWERS) == set(ErrorKind)
    codes = [answer.code for answer in _ANSWERS.values()]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_a_failed_run_is_not_repeated_by_a_client_by_itself(kind: ErrorKind) -> None:
    error = failed(RunError(kind, "Said.", 0.2), "run_1")
    assert 400 <= error.status < 600
    assert error.status != 401  # the client's own key is good
    assert error.message == "Said."
    assert error.headers == {
        "retry-after": "1",
        "retry-after-ms": "200",
        "x-should-retry": "false",
        "x-backline-run-id": "run_1",
    }


def test_a_cancelled_run_is_a_conflict() -> None:
    error = cancelled(RunCancelled(reason="Why."), "run_1")
    assert (error.status, error.message, error.code) == (409, "Why.", "run_cancelled")
