"""Projects: a tenant's own, within bounds, and never a copy that leads out of the agent's directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from shared import redis_keys as keys
from shared.conversations import UnknownPlaceError
from shared.projects import (
    CopyName,
    ProjectRecord,
    ProjectState,
    ProjectStore,
    TooManyProjectsError,
    directory_of,
)
from worker.copying import Bounds, CopyRefusedError, copy_tree

ROOMY = Bounds(most_bytes=1_000_000)


@pytest.fixture
def projects(redis: ArqRedis) -> ProjectStore:
    return ProjectStore(redis)


async def make(projects: ProjectStore, name: str = "", *, most: int = 10) -> ProjectRecord:
    return await projects.create("t", name=name, agent="a", metadata={"k": "v"}, most=most)


def copy_of(record: ProjectRecord) -> CopyName:
    return CopyName(keys.owner("t"), record.id)


async def test_a_project_is_its_tenants_alone(projects: ProjectStore) -> None:
    made = await make(projects, "Mine")
    assert made.state is ProjectState.CREATING
    assert await projects.find("t", made.id) == made
    assert await projects.find("u", made.id) is None
    assert (await projects.page("u", limit=10)).records == []
    assert not await projects.delete("u", made.id)
    assert await projects.find("t", made.id) == made


async def test_a_project_is_settled_once(projects: ProjectStore) -> None:
    one, two = await make(projects), await make(projects)
    assert await projects.settle(copy_of(one))
    assert not await projects.settle(copy_of(one), error="Too late.")
    assert await projects.settle(copy_of(two), error="No room.")
    found = [await projects.find("t", record.id) for record in (one, two)]
    assert [(record.state, record.error) for record in found if record] == [
        (ProjectState.READY, ""),
        (ProjectState.FAILED, "No room."),
    ]


async def test_a_deleted_project_leaves_a_mark_for_workers(projects: ProjectStore, redis: ArqRedis) -> None:
    made, kept = await make(projects), await make(projects)
    await projects.settle(copy_of(kept))
    assert await projects.delete("t", made.id)
    assert not await projects.delete("t", made.id)
    assert not await projects.settle(copy_of(made))
    assert await projects.find("t", made.id) is None
    assert [record.id for record in (await projects.page("t", limit=10)).records] == [kept.id]
    unknown = CopyName(keys.owner("t"), "proj_" + "0" * 32)
    gone, here, lost = await projects.keep([copy_of(made), copy_of(kept), unknown])
    assert (gone.is_deleted, here.is_deleted, lost.is_deleted) == (True, False, False)
    assert (gone.is_unknown, here.is_unknown, lost.is_unknown) == (False, False, True)
    assert (here.state, here.agent) == ("ready", "a")


async def test_a_kept_record_lives_on(projects: ProjectStore, redis: ArqRedis) -> None:
    made = await make(projects)
    for name in (keys.project(*copy_of(made)), keys.projects(keys.owner("t"))):
        await redis.pexpire(name, 1000)
    await projects.keep([copy_of(made)])
    for name in (keys.project(*copy_of(made)), keys.projects(keys.owner("t"))):
        assert await redis.pttl(name) > 1000


async def test_a_tenant_has_no_more_than_it_may(projects: ProjectStore, redis: ArqRedis) -> None:
    first, _ = await make(projects, most=2), await make(projects, most=2)
    with pytest.raises(TooManyProjectsError):
        await make(projects, most=2)
    await redis.delete(keys.project(*copy_of(first)))  # it has lapsed
    await make(projects, most=2)


async def test_projects_are_listed_by_age_in_pages(projects: ProjectStore) -> None:
    made = [(await make(projects, name)).id for name in "abc"]
    page = await projects.page("t", limit=2, order="asc")
    assert page.has_more
    rest = await projects.page("t", limit=2, order="asc", after=page.records[-1].id)
    assert sorted(record.id for record in (*page.records, *rest.records)) == sorted(made)
    assert not rest.has_more
    with pytest.raises(UnknownPlaceError):
        await projects.page("t", limit=2, after="proj_x")


@pytest.mark.parametrize("wrong", ["", "x", "proj_..", "../proj_" + "0" * 32, "proj_" + "0" * 31])
def test_no_path_is_made_of_what_is_no_id(wrong: str) -> None:
    assert CopyName.parse(f"{'0' * 16}/{wrong}") is None
    with pytest.raises(ValueError, match="not a project's id"):
        directory_of(Path("/data"), "t", wrong)


def test_a_name_is_read_as_it_was_written() -> None:
    copy = CopyName("0" * 16, "proj_" + "a" * 32)
    assert CopyName.parse(str(copy)) == copy


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "agent"
    (source / "docs/deep").mkdir(parents=True)
    (source / "CLAUDE.md").write_text("Be kind.")
    (source / "docs/deep/page.md").write_text("A page.")
    tool = source / "tool.sh"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    return source


def test_a_copy_has_the_same_files(source: Path, tmp_path: Path) -> None:
    copy_tree(source, tmp_path / "copy", ROOMY)
    found = sorted(str(place.relative_to(tmp_path / "copy")) for place in (tmp_path / "copy").rglob("*"))
    assert found == ["CLAUDE.md", "docs", "docs/deep", "docs/deep/page.md", "tool.sh"]
    assert (tmp_path / "copy/docs/deep/page.md").read_text() == "A page."
    assert os.access(tmp_path / "copy/tool.sh", os.X_OK)
    assert not os.access(tmp_path / "copy/CLAUDE.md", os.X_OK) or os.geteuid() == 0


def test_a_link_never_leads_out_of_the_copy(source: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("SECRET")
    (source / "out").symlink_to(tmp_path / "secret")
    (source / "up").symlink_to("..")
    (source / "docs/relative").symlink_to("../CLAUDE.md")
    (source / "docs/absolute").symlink_to(source / "docs/deep")
    (source / "through").symlink_to("docs/absolute/page.md")
    (source / "round").symlink_to("round")
    os.mkfifo(source / "pipe")
    copy = tmp_path / "copy"
    copy_tree(source, copy, ROOMY)
    assert not any((copy / name).is_symlink() or (copy / name).exists() for name in ("out", "up", "pipe"))
    assert (copy / "docs/relative").resolve() == copy / "CLAUDE.md"
    assert (copy / "docs/absolute").resolve() == copy / "docs/deep"
    assert (copy / "through").resolve() == copy / "docs/deep/page.md"


@pytest.mark.parametrize(
    ("bounds", "says"),
    [
        (Bounds(most_bytes=10), "10 bytes"),
        (Bounds(most_bytes=1_000_000, most_files=3), "3 files"),
        (Bounds(most_bytes=1_000_000, most_s=0.0), "longer than 0 s"),
    ],
)
def test_a_copy_has_bounds(source: Path, tmp_path: Path, bounds: Bounds, says: str) -> None:
    with pytest.raises(CopyRefusedError, match=says):
        copy_tree(source, tmp_path / "copy", bounds)


def test_a_copy_within_its_source_does_not_hold_itself(source: Path) -> None:
    (source / "data").mkdir()
    copy_tree(source, source / "data/copy", ROOMY, leave_out=source / "data")
    assert not (source / "data/copy/data").exists()
    assert (source / "data/copy/CLAUDE.md").exists()
