"""Records of projects in Redis: private working copies of agents' directories.

A record belongs to a tenant. The files are on the disks of workers, at `<owner>/<project id>` below their
own folder of projects; `owner` is the tenant as it stands in names (`redis_keys.owner`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.conversations import Order, UnknownPlaceError
from shared.scripts import Scripts

_ID = re.compile(r"proj_[0-9a-f]{32}")
_OWNER = re.compile(r"[0-9a-f]{16}")
_NOTHING_LAPSES = 2**53


class TooManyProjectsError(Exception):
    """A tenant has as many projects as it may."""


class ProjectState(StrEnum):
    """Where a project is: a worker still copies, its files are there, or they could not be made."""

    CREATING = "creating"
    READY = "ready"
    FAILED = "failed"


class ProjectRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A project; `created_ms` is Redis's clock, `error` says why one has failed."""

    id: str
    name: str
    agent: str
    created_ms: int
    state: ProjectState
    error: str = ""
    metadata: dict[str, str] = {}


class ProjectPage(msgspec.Struct, frozen=True):
    """Projects in the order asked for, and whether there are more."""

    records: list[ProjectRecord]
    has_more: bool


class CopyName(NamedTuple):
    """Where a project's files are, below a worker's folder of projects."""

    owner: str
    project: str

    @classmethod
    def parse(cls, text: str) -> CopyName | None:
        """Read what `str` gave; `None` for anything else, so that no path can be made of it."""
        owner, _, project = text.partition("/")
        is_name = _OWNER.fullmatch(owner) is not None and _ID.fullmatch(project) is not None
        return cls(owner, project) if is_name else None

    def __str__(self) -> str:
        return f"{self.owner}/{self.project}"


class CopyStatus(NamedTuple):
    """What is known of a copy: its project's state or `gone` or nothing, and its agent."""

    state: str
    agent: str

    @property
    def is_deleted(self) -> bool:
        """Whether the files are to go."""
        return self.state == "gone"

    @property
    def is_unknown(self) -> bool:
        """Whether there is no record of it, not even of its deletion."""
        return not self.state


class ProjectStore:
    """Projects in Redis. Every method raises `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def create(
        self, tenant: str, *, name: str, agent: str, metadata: Mapping[str, str], most: int
    ) -> ProjectRecord:
        """Begin a project that has no files yet; raises `TooManyProjectsError` at `most` of the tenant's."""
        project_id = f"proj_{secrets.token_hex(16)}"
        owner = keys.owner(tenant)
        name = name or project_id
        now = await self._scripts(
            "project_create",
            [keys.project(owner, project_id), keys.projects(owner)],
            [
                *(keys.PROJECT_TTL_MS, project_id, most, keys.project(owner, "")),
                *("name", name, "agent", agent, "metadata", msgspec.json.encode(metadata)),
            ],
        )
        if now < 0:
            raise TooManyProjectsError
        return ProjectRecord(
            id=project_id,
            name=name,
            agent=agent,
            created_ms=now,
            state=ProjectState.CREATING,
            metadata=dict(metadata),
        )

    async def find(self, tenant: str, project_id: str) -> ProjectRecord | None:
        """A project's record; `None` when the tenant has none of this id (any more)."""
        if _ID.fullmatch(project_id) is None:
            return None
        async with self._redis.pipeline() as pipe:
            pipe.hgetall(keys.project(keys.owner(tenant), project_id))
            (fields,) = await pipe.execute()
        return _record(project_id, fields)

    async def page(self, tenant: str, *, limit: int, after: str = "", order: Order = "desc") -> ProjectPage:
        """A page of a tenant's projects by age; raises `UnknownPlaceError`."""
        owner = keys.owner(tenant)
        is_known, *rows = await self._scripts(
            "record_page",
            [keys.projects(owner)],
            [keys.project(owner, ""), after, limit + 1, order, _NOTHING_LAPSES],
        )
        if not is_known:
            raise UnknownPlaceError(after)
        found = [
            _record(project_id.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
            for project_id, fields in zip(rows[::2], rows[1::2], strict=True)
        ]
        return ProjectPage([record for record in found[:limit] if record is not None], len(found) > limit)

    async def delete(self, tenant: str, project_id: str) -> bool:
        """Delete a project's record, and leave a mark for workers that have its files; `False` for none."""
        owner = keys.owner(tenant)
        names = [keys.project(owner, project_id), keys.projects(owner)]
        return bool(await self._scripts("project_delete", names, [project_id, keys.PROJECT_TTL_MS]))

    async def settle(self, copy: CopyName, *, error: str = "") -> bool:
        """Say that a copy is made, or why it is not; `False` when nobody wants it any more."""
        state = ProjectState.FAILED if error else ProjectState.READY
        return bool(await self._scripts("project_settle", [keys.project(*copy)], [state, error]))

    async def keep(self, copies: Sequence[CopyName]) -> list[CopyStatus]:
        """Keep the records of what a worker has on its disk; gives what is known of each, in order."""
        if not copies:
            return []
        names = [name for copy in copies for name in (keys.project(*copy), keys.projects(copy.owner))]
        answers = await self._scripts("project_keep", names, [keys.PROJECT_TTL_MS])
        return [CopyStatus(state.decode(), agent.decode()) for state, agent in answers]

    async def ask_to_make(self, worker: str, tenant: str, project_id: str) -> None:
        """Tell a worker to make the files of a project."""
        await self._tell(worker, keys.MAKE, tenant, project_id)

    async def ask_to_remove(self, worker: str, tenant: str, project_id: str) -> None:
        """Tell a worker that a project was deleted."""
        await self._tell(worker, keys.REMOVE, tenant, project_id)

    async def _tell(self, worker: str, wish: str, tenant: str, project_id: str) -> None:
        await self._redis.publish(keys.control(worker), f"{wish}{CopyName(keys.owner(tenant), project_id)}")


def folder_of_projects(data_dir: Path) -> Path:
    """Where a worker has the files of projects."""
    return data_dir / "projects"


def directory_of(data_dir: Path, tenant: str, project_id: str) -> Path:
    """Where a worker has the files of one project; raises `ValueError` for what is no project's id."""
    if _ID.fullmatch(project_id) is None:
        raise ValueError("This is not a project's id.")
    return folder_of_projects(data_dir) / keys.owner(tenant) / project_id


def _record(project_id: str, fields: Mapping[bytes, bytes]) -> ProjectRecord | None:
    if b"created" not in fields:  # not there, or only the mark of a deleted one
        return None
    text = {name.decode(): value.decode() for name, value in fields.items()}
    return ProjectRecord(
        id=project_id,
        name=text["name"],
        agent=text["agent"],
        created_ms=int(text["created"]),
        state=ProjectState(text["state"]),
        error=text.get("error", ""),
        metadata=msgspec.json.decode(text["metadata"], type=dict[str, str]),
    )
