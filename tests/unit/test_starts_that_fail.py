"""What cannot be started says why without naming places on the host, and is tried again within bounds."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cli import comeback
from cli.comeback import Comeback
from shared.disk import trouble_at
from shared.run_events import ErrorKind
from worker.turns import not_started


def test_an_operating_system_that_refuses_is_told_without_its_places() -> None:
    failed = not_started(PermissionError(13, "Permission denied", "/var/lib/secret-place"))
    assert failed.error.kind is ErrorKind.CLI_NOT_STARTED
    assert "Permission denied" in failed.error.message
    assert "secret-place" not in failed.error.message


def test_a_disk_that_may_not_be_looked_at_is_trouble_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bool:
        raise PermissionError(13, "Permission denied", "/var/lib/secret-place")

    monkeypatch.setattr(Path, "exists", refuse)
    assert trouble_at(Path("/anywhere")) == "The disk cannot be looked at: Permission denied."


async def test_a_process_that_dies_for_days_is_still_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: Comeback) -> None:
        pass

    monkeypatch.setattr(Comeback, "end", nothing)
    kept = Comeback(None, print, asyncio.get_running_loop().create_future())  # type: ignore[arg-type]
    kept._started_at = asyncio.get_running_loop().time()
    waits = [await kept.note_death() for _ in range(2_000)]
    assert waits[:3] == [0.5, 1.0, 2.0]
    assert waits[-1] == comeback._LONGEST_S
