"""`/v1/projects`: the working copies of agents. Each agent has one, its own directory."""

from __future__ import annotations

from typing import Literal

import msgspec
from litestar import delete, get, post

from api.errors import ApiError
from api.openai.pages import Deleted, ObjectList, page_of
from shared.registry import AgentRecord, CachedRegistry

_TAGS = ["Projects"]


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A working copy of an agent; `created_at` is in seconds since the epoch."""

    id: str
    name: str
    agent: str
    description: str
    created_at: int
    is_default: bool = True
    object: Literal["project"] = "project"


@get("/v1/projects", tags=_TAGS)
async def list_projects(registry: CachedRegistry) -> ObjectList[Project]:
    """List the agents' own directories, of agents that live workers serve."""
    known = await registry.look()
    data = [_project(known.agents[name]) for name in known.served if name in known.agents]
    return page_of(data, [project.id for project in data], has_more=False)


@post("/v1/projects", status_code=200, tags=_TAGS)
async def create_project() -> Project:
    """Refuse: an agent works in its own directory, and has no other copies yet."""
    raise ApiError(
        400,
        "Projects cannot be created: an agent works in its own directory. Serve another with --agent DIR.",
        code="unsupported",
    )


@get("/v1/projects/{project_id:str}", tags=_TAGS)
async def retrieve_project(project_id: str, registry: CachedRegistry) -> Project:
    """Show a project."""
    return _project(await _agent(project_id, registry))


@delete("/v1/projects/{project_id:str}", status_code=200, tags=_TAGS)
async def delete_project(project_id: str, registry: CachedRegistry) -> Deleted:
    """Refuse: an agent's own directory is the operator's."""
    await _agent(project_id, registry)
    said = "This is an agent's own directory; it cannot be deleted through the API."
    raise ApiError(400, said, param="project_id", code="unsupported")


async def _agent(project_id: str, registry: CachedRegistry) -> AgentRecord:
    known = await registry.look()
    if project_id not in known.agents or project_id not in known.served:
        said = f"There is no project with the id '{project_id[:100]}'. GET /v1/projects lists what there is."
        raise ApiError(404, said, param="project_id", code="project_not_found")
    return known.agents[project_id]


def _project(agent: AgentRecord) -> Project:
    return Project(
        id=agent.name,
        name=agent.name,
        agent=agent.name,
        description=agent.description,
        created_at=agent.created,
    )
