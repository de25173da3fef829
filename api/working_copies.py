"""Projects as the API sees them: made on a live worker, found, listed, and deleted with their files."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

import msgspec

from api.conversations import Thread, unknown_place
from api.errors import ApiError, project_unavailable
from shared.conversations import Order, UnknownPlaceError
from shared.projects import ProjectPage, ProjectRecord, ProjectState, ProjectStore, TooManyProjectsError
from shared.registry import CachedRegistry
from shared.runs import RunRequest

_MAKE_S = 20.0
_LOOK_S = 0.05


class Projects:
    """Makes, finds, lists and deletes projects of a tenant, of which one may have `most`.

    Every method raises `redis.RedisError` when Redis does not answer in time.
    """

    def __init__(self, store: ProjectStore, registry: CachedRegistry, *, most: int) -> None:
        self._store = store
        self._registry = registry
        self._most = most

    async def create(
        self, tenant: str, *, name: str, agent: str, metadata: Mapping[str, str]
    ) -> ProjectRecord:
        """Have a worker copy the agent's directory, and give the project once it is there.

        Raises `ApiError` when there is no such worker, it cannot, or it does not in time; nothing stays then.
        """
        worker = await self._a_worker_of(agent)
        try:
            made = await self._store.create(
                tenant, name=name, agent=agent, metadata=metadata, most=self._most
            )
        except TooManyProjectsError as error:
            said = f"There are {self._most} projects already; delete one first."
            raise ApiError(400, said, code="too_many_projects") from error
        is_ready = False
        try:
            await self._store.ask_to_make(worker, tenant, made.id)
            made = await self._made(tenant, made)
            is_ready = True
            return made
        finally:
            if not is_ready:
                await asyncio.shield(self.delete(tenant, made.id))

    async def find(self, tenant: str, project_id: str) -> ProjectRecord:
        """A project's record; raises `ApiError` 404."""
        record = await self._store.find(tenant, project_id)
        if record is None:
            raise project_not_found(project_id)
        return record

    async def page(self, tenant: str, *, limit: int, after: str, order: Order) -> ProjectPage:
        """A page of projects by age; raises `ApiError` 400 for an unknown `after`."""
        try:
            return await self._store.page(tenant, limit=limit, after=after, order=order)
        except UnknownPlaceError as error:
            raise unknown_place(after) from error

    async def delete(self, tenant: str, project_id: str) -> None:
        """Delete a project: its record now, its files by the workers that have them. None is no error."""
        await self._store.delete(tenant, project_id)
        for worker in (await self._registry.look(fresh=True)).workers:
            await self._store.ask_to_remove(worker.id, tenant, project_id)

    async def named(self, tenant: str, project_id: str | None, thread: Thread | None) -> ProjectRecord | None:
        """The project that a request runs in: the one it names, or its conversation's; `None` for none.

        An agent's own directory goes by the agent's name; the record for it has an empty id.

        Raises `ApiError` 404 for one that is not there, 400 when the conversation belongs elsewhere, and 503
        while its files are not there yet.
        """
        begun_in = thread.record.project if thread is not None and thread.record.has_begun else None
        own = await self._own_directory(project_id)
        if own is not None:
            project_id = ""
        if begun_in is not None and project_id is not None and project_id != begun_in:
            where = f"the project {begun_in!r}" if begun_in else "the agent's own directory"
            said = f"This conversation is in {where}; it cannot go on elsewhere."
            raise ApiError(400, said, param="project_id", code="invalid_value")
        wanted = project_id if project_id is not None else begun_in or None
        if own is not None or wanted is None:
            return own
        record = await self.find(tenant, wanted)
        if record.state is not ProjectState.READY:
            raise project_unavailable(record.id)
        return record

    async def _own_directory(self, project_id: str | None) -> ProjectRecord | None:
        if project_id is None or project_id not in (await self._registry.look()).served:
            return None
        return ProjectRecord(id="", name=project_id, agent=project_id, created_ms=0, state=ProjectState.READY)

    async def _a_worker_of(self, agent: str) -> str:
        """A live worker of the agent; of several one with the fewest projects."""
        workers = [w for w in (await self._registry.look(fresh=True)).workers if agent in w.agents]
        if not workers:
            raise _not_now(f"No worker serves the agent {agent!r} right now.", "agent_unavailable")
        random.shuffle(workers)
        return min(workers, key=lambda worker: len(worker.projects)).id

    async def _made(self, tenant: str, record: ProjectRecord) -> ProjectRecord:
        give_up_at = time.monotonic() + _MAKE_S
        while time.monotonic() < give_up_at:
            found = await self._store.find(tenant, record.id)
            if found is None:
                raise project_not_found(record.id)
            if found.state is ProjectState.READY:
                return found
            if found.state is ProjectState.FAILED:
                raise ApiError(
                    500, found.error, type="server_error", code="project_failed", is_retryable=False
                )
            await asyncio.sleep(_LOOK_S)
        raise _not_now(f"No worker made the project within {_MAKE_S:g} s.", "project_not_made")


def in_project(run: RunRequest, project: ProjectRecord) -> RunRequest:
    """The run in a project; raises `ApiError` 400 when it is another agent's, or names another directory."""
    if project.agent != run.agent:
        said = f"This is a project of {project.agent!r}, and 'model' names {run.agent!r}."
        raise ApiError(400, said, param="project_id", code="invalid_value")
    if project.id and run.options.working_dir:
        said = "A run in a project works in the project's directory."
        raise ApiError(400, said, param="claude_options.working_dir", code="invalid_value")
    return msgspec.structs.replace(run, project=project.id)


def project_not_found(project_id: str) -> ApiError:
    """The answer to an id that is not one of the tenant's projects."""
    said = f"There is no project with the id '{project_id[:100]}'. GET /v1/projects lists what there is."
    return ApiError(404, said, param="project_id", code="project_not_found")


def _not_now(said: str, code: str) -> ApiError:
    return ApiError(
        503, said, type="service_unavailable_error", code=code, retry_after_s=5.0, is_retryable=True
    )
