"""Files of a git revision come to the disk once, as they were, and nothing of the repository is run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shared.agents import Agent
from shared.settings import RevisionsAllowed, Settings
from tests.support.repository import GitRepository
from tests.support.sandbox import missing_sandbox
from worker.revisions import checkouts
from worker.revisions.checkouts import Checkouts
from worker.revisions.git import RevisionError, Wrap
from worker.sandbox.bubblewrap import find_sandbox

Make = Callable[..., Checkouts]


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    return GitRepository(tmp_path / "repository")


@pytest.fixture
def agent(repository: GitRepository) -> Agent:
    return Agent(name="a", directory=repository.root / "agents/a")


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(allowed: RevisionsAllowed = "tags", *, wrap: Wrap | None = None, most: int = 10**6) -> Checkouts:
        settings = Settings(data_dir=tmp_path / "data", agent_versions=allowed, max_project_bytes=most)
        return Checkouts(settings, lambda _: settings, wrap)

    return made


def kept(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data/versions").glob("*/*"))


async def test_only_the_agents_directory_is_laid_out_for_reading(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path
) -> None:
    commit = repository.commit({"agents/a/CLAUDE.md": "one", "agents/a/bin/run": "#!", "else": "no"}, "v1")
    repository.commit({"agents/a/CLAUDE.md": "two"})
    async with make().at(agent, "v1") as at:
        assert (at.revision, at.name) == (commit, "a")
        assert (at.directory / "CLAUDE.md").read_text() == "one"
        files = [place for place in at.directory.rglob("*") if place.is_file()]
        assert sorted(place.name for place in files) == ["CLAUDE.md", "run"]
        assert not [place for place in (*files, at.directory) if place.stat().st_mode & 0o277 & ~0o100]
    assert kept(tmp_path) == [at.directory]
    async with make().at(agent, "") as now:
        assert now is agent


async def test_equal_files_are_laid_out_once(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path
) -> None:
    repository.commit({"agents/a/CLAUDE.md": "one"}, "v1")
    repository.commit({"else": "new"}, "v2")
    async with make().at(agent, "v1") as first, make().at(agent, "v2") as second:
        assert first.directory == second.directory
        assert first.revision != second.revision
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize(
    ("revision", "allowed"),
    [
        *(("v9", "tags"), ("main", "tags"), ("v1", "off"), ("before", "any"), ("f" * 40, "any")),
        *(("--all", "any"), ("v1..v2", "any"), ("v1^{tree}", "any"), ("", "off")),
    ],
)
async def test_what_is_not_there_or_not_allowed_is_refused(
    repository: GitRepository,
    agent: Agent,
    make: Make,
    tmp_path: Path,
    revision: str,
    allowed: RevisionsAllowed,
) -> None:
    repository.commit({"else": "the agent is not there yet"}, "before")
    repository.commit({"agents/a/CLAUDE.md": "one"}, "v1")
    if not revision:
        async with make(allowed).at(agent, revision) as at:
            assert at == agent
        return
    with pytest.raises(RevisionError):
        async with make(allowed).at(agent, revision):
            pass
    assert not kept(tmp_path)


async def test_a_run_that_goes_on_does_so_at_its_commit_or_not_at_all(
    repository: GitRepository, agent: Agent, make: Make
) -> None:
    first = repository.commit({"agents/a/CLAUDE.md": "one"}, "v1")
    for allowed, name in (("tags", "v1"), ("any", "main"), ("any", "v1")):
        async with make(allowed).at(agent, name, commit=first) as at:
            assert at.revision == first
    repository.commit({"agents/a/CLAUDE.md": "two"}, "v2")
    repository.git("tag", "--force", "v1", "v2")
    for name in ("main", "v1"):
        async with make("any").at(agent, name, commit=first) as at:
            assert (at.revision, (at.directory / "CLAUDE.md").read_text()) == (first, "one")
    for allowed, said in (("tags", "'v1' was moved"), ("off", "runs as it is")):
        with pytest.raises(RevisionError, match=said):
            async with make(allowed).at(agent, "v1", commit=first):
                pass


async def test_a_link_that_leads_out_is_left_out(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("CANARY")
    repository.commit({"agents/a/docs/deep/page": "page", "else": "other"})
    links = {
        "inside": "docs/deep/page",
        "absolute": str(tmp_path / "secret"),
        "above": "../../else",
        "docs/deep/top": "../..",
        "by_link": "docs/deep/top/../../else",
        "dangling": "not/there",
        "ring": "ring",
    }
    for name, leads_to in links.items():
        (agent.directory / name).symlink_to(leads_to)
    repository.commit({}, "v1")
    async with make().at(agent, "v1") as at:
        assert (at.directory / "inside").read_text() == "page"
        found = {place.relative_to(at.directory).as_posix() for place in at.directory.rglob("*")}
        assert {"inside", "docs/deep/top", "dangling", "ring"} <= found
        assert not {"absolute", "above", "by_link"} & found


@pytest.mark.parametrize(
    "files", [{"agents/a/large": "x" * 2000}, {f"agents/a/{n}": "x" * 300 for n in range(9)}]
)
async def test_a_revision_beyond_the_bounds_leaves_nothing(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path, files: dict[str, str]
) -> None:
    repository.commit(files, "v1")
    with pytest.raises(RevisionError, match="too"):
        async with make(most=1000).at(agent, "v1"):
            pass
    assert not kept(tmp_path)


async def test_the_least_recently_used_goes_and_none_that_is_in_use(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkouts, "_MOST_KEPT", 2)
    for number in range(4):
        repository.commit({"agents/a/CLAUDE.md": str(number)}, f"v{number}")
    async with make().at(agent, "v0") as held:
        places = [held.directory]
        for number, age_s in ((1, 300), (2, 200), (3, 0)):
            os.utime(held.directory, (0, 0))
            async with make().at(agent, f"v{number}") as at:
                places.append(at.directory)
            os.utime(at.directory, (at.directory.stat().st_mtime - age_s,) * 2)
        assert [place.exists() for place in places] == [True, False, False, True]
    async with make().at(agent, "v1"):  # which is laid out again, now that another may go
        pass
    assert [place.exists() for place in places] == [False, True, False, True]
    assert len(kept(tmp_path)) == 2


async def test_what_a_killed_worker_left_half_made_goes(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path
) -> None:
    repository.commit({"agents/a/CLAUDE.md": "one"}, "v1")
    half_made = tmp_path / "data/versions/a/.new-0123"
    (half_made / "docs").mkdir(parents=True)
    half_made.chmod(0o500)
    os.utime(half_made, (0, 0))
    async with make().at(agent, "v1") as at:
        assert kept(tmp_path) == [at.directory]


def wrap_in_sandbox(tmp_path: Path) -> Wrap:
    box, why = find_sandbox(Settings(data_dir=tmp_path / "data"), (), os.environ)
    assert box is not None, why
    return box.reading


@pytest.mark.parametrize("is_boxed", [False, True])
async def test_nothing_that_the_repository_names_is_run(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path, *, is_boxed: bool
) -> None:
    if is_boxed and missing_sandbox():
        pytest.skip(f"no sandbox: {missing_sandbox()}")
    repository.commit(
        {"agents/a/CLAUDE.md": "one\n", ".gitattributes": "* filter=evil text eol=crlf\n"}, "v1"
    )
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in (
        *("filter.evil.smudge", "filter.evil.process", "core.fsmonitor", "core.pager", "core.sshCommand"),
        *("tar.tar.command", "remote.origin.uploadpack", "core.editor", "diff.external", "gpg.program"),
    ):
        repository.git("config", name, str(trap))
    for name, value in (
        *(("remote.origin.url", f"ext::{trap}"), ("remote.origin.promisor", "true")),
        *(("protocol.allow", "always"), ("core.repositoryFormatVersion", "1")),
        *(("extensions.partialClone", "origin"), ("core.hooksPath", str(tmp_path))),
    ):
        repository.git("config", name, value)
    wrap = wrap_in_sandbox(tmp_path) if is_boxed else None
    async with make("any", wrap=wrap).at(agent, "v1") as at:
        assert (at.directory / "CLAUDE.md").read_bytes() == b"one\n"
    blob = repository.git("rev-parse", "v1:agents/a/CLAUDE.md")
    (repository.root / ".git/objects" / blob[:2] / blob[2:]).unlink()  # which a partial clone would fetch
    for place in kept(tmp_path):
        place.chmod(0o700)
        place.rename(tmp_path / "gone")
    for revision in ("v1", "f" * 40):
        with pytest.raises(RevisionError):
            async with make("any", wrap=wrap).at(agent, revision):
                pass
    assert not (tmp_path / "sprung").exists()


@pytest.mark.skipif(bool(missing_sandbox()), reason=f"no sandbox: {missing_sandbox()}")
async def test_in_the_sandbox_git_sees_no_other_repository(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path
) -> None:
    other = GitRepository(tmp_path / "others")
    other.commit({"agents/a/CLAUDE.md": "CANARY"}, "v1")
    repository.commit({"agents/a/CLAUDE.md": "mine"})
    (repository.root / ".git/commondir").write_text(f"{other.root}/.git\n")
    async with make().at(agent, "v1") as at:  # without a sandbox git follows, as the agent itself could
        assert (at.directory / "CLAUDE.md").read_text() == "CANARY"
    with pytest.raises(RevisionError):
        async with make(wrap=wrap_in_sandbox(tmp_path)).at(agent, "v1"):
            pass


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_repository_of_another_place_is_none(
    repository: GitRepository, agent: Agent, make: Make, tmp_path: Path, kind: str
) -> None:
    repository.commit({"agents/a/CLAUDE.md": "one"}, "v1")
    elsewhere = msgspec.structs.replace(agent, directory=tmp_path / "elsewhere/agents/a")
    elsewhere.directory.mkdir(parents=True)
    pointer = tmp_path / "elsewhere/.git"
    if kind == "link":
        pointer.symlink_to(repository.root / ".git")
    else:
        pointer.write_text(f"gitdir: {repository.root}/.git\n")
    with pytest.raises(RevisionError, match="another place"):
        async with make().at(elsewhere, "v1"):
            pass
