"""What bubblewrap is told, and what is said where it is not; its walls are tested from inside."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.agents import Agent
from shared.runs import LaunchOptions
from shared.settings import Settings
from tests.support.sandbox import missing_sandbox
from worker.claude.launch import Launch
from worker.gate.door import Door
from worker.sandbox.bubblewrap import Bubblewrap, SandboxError, find_sandbox
from worker.sandbox.choice import choose_sandbox
from worker.sandbox.placeholders import Placeholders
from worker.sandbox.places import Mount, in_order

needs_sandbox = pytest.mark.skipif(bool(missing_sandbox()), reason=f"no sandbox: {missing_sandbox()}")


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    directory = tmp_path / "agents/a"
    (directory / ".claude").mkdir(parents=True)
    (directory / "CLAUDE.md").write_text("An agent.")
    return Agent(name="a", directory=directory)


def enclosed(
    agent: Agent,
    tmp_path: Path,
    *command: str,
    others: tuple[Agent, ...] = (),
    exit: int | None = None,  # noqa: A002 - the launch's own word
    **fields: object,
) -> Launch:
    settings = Settings(data_dir=tmp_path / "data", **fields)  # type: ignore[arg-type]
    box = Bubblewrap("bwrap", settings, (agent, *others), has_own_user=True)
    box.prepare()
    scratch = tmp_path / "data/scratch/1-x"
    scratch.mkdir(parents=True, exist_ok=True)
    launch = Launch(
        argv=command or ("/bin/true",),
        cwd=agent.directory,
        env={},
        marker="m",
        scratch=scratch,
        model=None,
        options=LaunchOptions(),
        is_mirrored=True,
        exit=exit,
    )
    return box.enclose(launch, None, is_project=False)


def said_inside(launch: Launch) -> str:
    done = subprocess.run(
        launch.argv, capture_output=True, text=True, timeout=20, check=False, env={"PATH": "/bin"}
    )
    return done.stdout + done.stderr


def stand_in(tmp_path: Path, program: str) -> dict[str, str]:
    """An environment whose bwrap is `program`."""
    place = tmp_path / "bin"
    place.mkdir()
    (place / "bwrap").write_text(f"#!{sys.executable}\n{program}")
    (place / "bwrap").chmod(0o755)
    return {"PATH": str(place)}


def test_a_host_without_bubblewrap_is_told_so(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    box, why = find_sandbox(settings, (), {"PATH": str(tmp_path)})
    assert box is None
    assert "bubblewrap" in why
    with pytest.raises(SandboxError, match="package bubblewrap"):
        find_sandbox(Settings(data_dir=tmp_path, sandbox="bubblewrap"), (), {"PATH": str(tmp_path)})


def test_a_bubblewrap_that_does_not_work_here_is_none(tmp_path: Path) -> None:
    environ = stand_in(tmp_path, "import sys; sys.exit('No permissions to create a new namespace')")
    box, why = find_sandbox(Settings(data_dir=tmp_path), (), environ)
    assert box is None
    assert "No permissions to create a new namespace" in why


def test_where_no_user_namespace_may_be_made_the_others_are_used(tmp_path: Path) -> None:
    environ = stand_in(tmp_path, "import sys; sys.exit('--unshare-user' in sys.argv)")
    box, why = find_sandbox(Settings(data_dir=tmp_path), (), environ)
    assert box is not None
    assert why == ""


def test_none_is_never_probed(tmp_path: Path) -> None:
    environ = stand_in(tmp_path, "import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    assert find_sandbox(Settings(data_dir=tmp_path, sandbox="none"), (), environ)[0] is None
    assert not (tmp_path / "bin/ran").exists()


@pytest.mark.parametrize(("uid", "allowed"), [(0, False), (0, True), (1000, False)])
def test_root_without_a_sandbox_must_be_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, allowed: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    settings = Settings(data_dir=tmp_path, sandbox="none", allow_root=allowed)
    if uid == 0 and not allowed:
        with pytest.raises(SandboxError, match="--allow-root"):
            choose_sandbox(settings, (), {})
    else:
        assert choose_sandbox(settings, (), {}) is None


def test_what_only_a_sandbox_can_hold_is_not_promised_without(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, sandbox="none", allow_root=True, agent_files="read-only")
    with pytest.raises(SandboxError, match="agent_files"):
        choose_sandbox(settings, (), {})


@pytest.mark.parametrize("network", ["none", "listed"])
def test_agents_are_kept_off_the_network_or_there_is_no_worker(tmp_path: Path, network: Any) -> None:
    settings = Settings(data_dir=tmp_path, sandbox="none", allow_root=True, agent_network=network)
    with pytest.raises(SandboxError, match="network"):
        choose_sandbox(settings, (), {})


def test_a_door_is_the_workers_own_and_those_of_dead_workers_go(tmp_path: Path) -> None:
    data = tmp_path / ("long-" * 30)
    (data / "doors").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    (data / f"doors/{dead.pid}.sock").touch()
    door = Door(data)
    assert list((data / "doors").iterdir()) == [door.path]
    assert door.path.stat().st_mode & 0o077 == 0
    door.close()
    assert not list((data / "doors").iterdir())


@needs_sandbox
@pytest.mark.parametrize("network", ["none", "listed"])
def test_without_a_network_there_is_only_loopback(agent: Agent, tmp_path: Path, network: str) -> None:
    launch = enclosed(agent, tmp_path, "/bin/cat", "/proc/net/dev", agent_network=network)
    devices = [line.split(":")[0].strip() for line in said_inside(launch).splitlines()[2:]]
    assert devices == ["lo"]


@needs_sandbox
def test_a_way_out_is_a_socket_that_listens_in_there(agent: Agent, tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        words = "id -u; ls /proc/self/fd; exec 3<>/dev/tcp/127.0.0.1/3128; cat <&3"
        launch = enclosed(
            agent, tmp_path, "/bin/bash", "-c", words, agent_network="listed", exit=theirs.fileno()
        )
        argv, inherited = launch.argv, (theirs.fileno(),)
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, pass_fds=inherited)
        _, (descriptor,), *_ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=descriptor) as listening:
            listening.settimeout(20)
            with listening.accept()[0] as visitor:
                visitor.sendall(b"from outside")
        said, _ = process.communicate(timeout=20)
    uid, *descriptors, last = said.split("\n")
    assert int(uid) != 0
    assert last == "from outside"
    assert set(descriptors) <= {"0", "1", "2", "3"}, "what handed it over is closed"


def test_what_is_inside_comes_after_what_holds_it() -> None:
    mounts = [Mount(Path("/a/b/c")), Mount(Path("/a")), Mount(Path("/a/b"), Path("/x")), Mount(Path("/a/b"))]
    assert in_order(mounts) == [Mount(Path("/a")), Mount(Path("/a/b")), Mount(Path("/a/b/c"))]


def test_empty_set_up_goes_when_nobody_needs_it(agent: Agent, tmp_path: Path) -> None:
    one, two = Placeholders(tmp_path / "records"), Placeholders(tmp_path / "records")
    one.make(agent.directory)
    assert {place.name for place in agent.directory.iterdir()} == {
        *("CLAUDE.md", "CLAUDE.local.md", ".mcp.json", ".claude")
    }
    two.make(agent.directory)
    one.remove()
    assert (agent.directory / ".mcp.json").exists(), "another worker's processes rely on it"
    two.remove()
    assert {place.name for place in agent.directory.iterdir()} == {"CLAUDE.md", ".claude"}
    third = Placeholders(tmp_path / "records")
    third.make(agent.directory)
    (agent.directory / ".mcp.json").write_text('{"mcpServers": {"mine": {}}}')
    third.remove()
    assert "mine" in (agent.directory / ".mcp.json").read_text(), "the operator has filled it"
    assert (agent.directory / "CLAUDE.md").read_text() == "An agent."
    assert not list((tmp_path / "records").iterdir())


_MAKE = """
import sys, time
from pathlib import Path
from worker.sandbox.placeholders import Placeholders
kept = Placeholders(Path(sys.argv[1]))
kept.make(Path(sys.argv[2]))
print("made", flush=True)
time.sleep(60)
"""


def test_what_a_killed_worker_left_goes_with_the_next_start(agent: Agent, tmp_path: Path) -> None:
    (agent.directory / ".claude").rmdir()
    (agent.directory / ".git").mkdir()
    argv = [sys.executable, "-c", _MAKE, str(tmp_path / "data/sandbox/placeholders"), str(agent.directory)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"made\n"
        assert (agent.directory / ".git/hooks").is_dir()
        box = Bubblewrap("bwrap", Settings(data_dir=tmp_path / "data"), (agent,), has_own_user=True)
        box.prepare()
        assert (agent.directory / ".claude").is_dir(), "it lives, and relies on it"
        (agent.directory / "CLAUDE.local.md").write_text("The operator's own.")
        worker.kill()
    box.prepare()
    assert {place.name for place in agent.directory.iterdir()} == {"CLAUDE.md", "CLAUDE.local.md", ".git"}
    assert not list((agent.directory / ".git").iterdir())
    assert not list((tmp_path / "data/sandbox/placeholders").iterdir())


@needs_sandbox
def test_a_read_only_agent_writes_nothing(agent: Agent, tmp_path: Path) -> None:
    launch = enclosed(
        agent, tmp_path, "/bin/sh", "-c", "cat CLAUDE.md; echo x > new", agent_files="read-only"
    )
    assert "An agent." in (said := said_inside(launch))
    assert "Read-only" in said
    assert not (agent.directory / "new").exists()


@needs_sandbox
def test_a_scratch_copy_goes_with_its_process(agent: Agent, tmp_path: Path) -> None:
    words = "echo x > new; cat new; echo y > .claude/settings.json"
    launch = enclosed(agent, tmp_path, "/bin/sh", "-c", words, agent_files="scratch")
    assert "x\n" in (said := said_inside(launch))
    assert "Read-only" in said
    assert not (agent.directory / "new").exists()
    assert (launch.scratch / "files/new").exists()


@needs_sandbox
def test_set_up_behind_a_link_makes_the_directory_read_only(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/settings.json").write_text("shared-settings")
    (agent.directory / ".claude").rmdir()
    (agent.directory / ".claude").symlink_to(tmp_path / "shared")
    launch = enclosed(agent, tmp_path, "/bin/sh", "-c", "cat .claude/settings.json; rm .claude; touch new")
    said = said_inside(launch)
    assert "shared-settings" in said
    assert said.count("Read-only") == 2


@needs_sandbox
def test_another_agent_below_an_agent_is_not_there(agent: Agent, tmp_path: Path) -> None:
    inner = Agent(name="b", directory=agent.directory / "inner")
    inner.directory.mkdir()
    (inner.directory / "secret").write_text("inner-secret")
    launch = enclosed(agent, tmp_path, "/bin/sh", "-c", "cat inner/secret; ls -a inner", others=(inner,))
    assert "inner-secret" not in said_inside(launch)
    launch = enclosed(inner, tmp_path, "/bin/sh", "-c", "cat secret", others=(agent,))
    assert "inner-secret" in said_inside(launch)


@needs_sandbox
def test_an_agent_that_holds_the_data_directory_does_not_see_it(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/private").write_text("private-data")
    outer = Agent(name="outer", directory=tmp_path)
    launch = enclosed(
        outer, tmp_path, "/bin/sh", "-c", "cat data/private; find data; echo x > data/scratch/1-x/y"
    )
    assert "private-data" not in said_inside(launch)
    assert (launch.scratch / "y").exists()
