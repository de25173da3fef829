"""What is wrong with an agent's directory is seen, told without the host's paths, and over when mended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from tempfile import TemporaryDirectory

import pytest

from shared.agents import Agent
from worker.directories import Directories, fault_of

SETTINGS, SERVERS = ".claude/settings.json", ".mcp.json"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "agent/.claude").mkdir(parents=True)
    return tmp_path / "agent"


def broken(name: str, content: str) -> Callable[[Path], object]:
    return lambda directory: (directory / name).write_text(content)


def replace_by_file(directory: Path) -> None:
    directory.rename(directory.with_name("x"))
    directory.touch()


FAULTS: list[tuple[Callable[[Path], object], str]] = [
    (lambda directory: directory.rename(directory.with_name("renamed")), "is not there"),
    (replace_by_file, "is none"),
    (broken(SETTINGS, '{"permissions": '), f"Its {SETTINGS} cannot be used: it is no JSON"),
    (broken(SETTINGS, "[]"), "holds no object"),
    (broken(SETTINGS, "[" * 100_000), "is no JSON"),
    (broken(".claude/settings.local.json", "{,}"), "settings.local.json cannot be used"),
    (broken(SERVERS, "{"), f"Its {SERVERS} cannot be used"),
    (lambda directory: (directory / SERVERS).mkdir(), "cannot be read"),
]


@pytest.mark.parametrize(("harm", "words"), FAULTS)
def test_each_fault_is_told_without_the_hosts_paths(
    harm: Callable[[Path], object], words: str, directory: Path
) -> None:
    assert fault_of(directory) == ""
    harm(directory)
    said = fault_of(directory)
    assert words in said
    assert str(directory) not in said


@pytest.mark.parametrize("content", ["{}", "", " \n", '\ufeff{"permissions": {}}'])
def test_settings_that_say_nothing_are_no_fault(content: str, directory: Path) -> None:
    (directory / SETTINGS).write_text(content)
    assert fault_of(directory) == ""


def test_a_directory_that_may_not_be_read_is_a_fault() -> None:
    """Looked at as nobody, for root may read everything."""
    with TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        directory = Path(place, "agent")
        directory.mkdir(mode=0o700 if os.geteuid() == 0 else 0o000)
        nobody = "os.setgid(65534); os.setuid(65534);" if os.geteuid() == 0 else ""
        look = f"import os; from pathlib import Path; from worker.directories import fault_of; {nobody}"
        argv = [sys.executable, "-c", f"{look} print(fault_of(Path({str(directory)!r})))"]
        done = run(argv, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "Its directory cannot be read.\n"


def test_a_fault_comes_and_goes_with_the_directory(directory: Path) -> None:
    agents = {name: Agent(name, directory.with_name(name)) for name in ("agent", "other")}
    agents["other"].directory.mkdir()
    looking = Directories(agents)
    assert (looking.usable, looking.faults) == (("agent", "other"), {})
    directory.rename(directory.with_name("away"))
    assert looking.fault("agent", at_once=True) == "Its directory is not there."
    assert (looking.usable, list(looking.faults)) == (("other",), ["agent"])
    directory.with_name("away").rename(directory)
    assert looking.fault("agent", at_once=True) == ""
    assert (looking.usable, looking.faults) == (("agent", "other"), {})
    assert looking.fault("nobody's") == ""


def test_a_directory_is_as_its_files_are_by_now(directory: Path) -> None:
    looking = Directories({"agent": Agent("agent", directory)})
    for content, is_usable in (("{}", True), ("{", False), ("[]", False), ('{"a": 1}', True)):
        (directory / SETTINGS).write_text(content)
        assert (looking.fault("agent", at_once=True) == "") is is_usable, content
