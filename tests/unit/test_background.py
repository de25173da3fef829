"""What a Backline in the background says is kept, within a bound, and can be followed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli import background
from cli.background import Background, bound_log
from cli.errors import CommandError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Background:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    found = Background(tmp_path)
    found.place.mkdir(parents=True)
    return found


def test_each_directory_has_its_own(tmp_path: Path, here: Background) -> None:
    (tmp_path / "other").mkdir()
    assert Background(tmp_path / "other").place != here.place
    assert Background(tmp_path / "other" / "..").place == here.place


def test_a_long_log_gives_way_to_a_new_one(here: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_MOST_LOG_BYTES", 100)
    code = (
        "import os, sys; from pathlib import Path; from cli import background;"
        "background._MOST_LOG_BYTES = 100; place = Path(sys.argv[1]);"
        "log = os.open(place / 'up.log', os.O_WRONLY | os.O_CREAT | os.O_APPEND); os.dup2(log, 1);"
        "print('x' * 200, flush=True); background.bound_log(place); print('y', flush=True);"
        "background.bound_log(place); print('z', flush=True)"
    )
    subprocess.run([sys.executable, "-c", code, str(here.place)], check=True, timeout=30)
    assert (here.place / "up.log.1").read_text() == "x" * 200 + "\n"
    assert here.log.read_text() == "y\nz\n"


def test_a_short_log_stays(here: Background) -> None:
    here.log.write_text("x\n")
    bound_log(here.place)
    assert here.log.read_text() == "x\n"


def test_the_newest_lines_are_shown_and_followed_to_the_end(here: Background) -> None:
    here.log.write_text("".join(f"{n}\n" for n in range(5)))
    assert list(here.lines(2, follow=False)) == ["3\n", "4\n"]
    assert list(here.lines(1, follow=True)) == ["4\n"]  # nothing runs: it ends


def test_no_log_is_said(here: Background) -> None:
    with pytest.raises(CommandError, match="There is no log"):
        list(here.lines(1, follow=False))


def test_a_record_that_cannot_be_read_is_none(here: Background) -> None:
    (here.place / "up.json").write_text("{")
    assert here.process() is None
    (here.place / "up.json").write_text(
        f'{{"pid": {os.getpid()}, "started": {psutil.Process().create_time()}, "variables": {{}}}}'
    )
    assert here.record
    assert here.process() is None  # the number is ours, the command line is not a Backline's
