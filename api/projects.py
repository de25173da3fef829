"""`/v1/projects`: the working copies of agents: each agent's own directory, and private copies of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, delete, get, post

from api.access import READ, RUN
from api.decode import decode_body
from api.errors import ApiError
from api.models import choose
from api.openai.pages import After, Deleted, Limit, ObjectList, Sorted, checked_metadata, page_of
from api.working_copies import Projects
from shared.projects import ProjectRecord
from shared.registry import AgentRecord, CachedRegistry

_TAGS = ["Projects"]
_Name = Annotated[str, msgspec.Meta(max_length=200)]


class CreateProject(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/projects`: the agent whose directory is copied, and what to call the copy."""

    agent: str
    name: _Name | None = None
    metadata: dict[str, str] | None = None


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A working copy of an agent; `created_at` is in seconds since the epoch.

    `is_default` marks the agent's own directory. `error` is there when `state` is `failed`.
    """

    id: str
    name: str
    agent: str
    description: str
    created_at: int
    state: Literal["creating", "ready", "failed"] = "ready"
    error: str | None = None
    metadata: dict[str, str] = {}
    is_default: bool = True
    object: Literal["project"] = "project"


@get("/v1/projects", tags=_TAGS, opt=READ)
async def list_projects(
    tenant: str,
    projects: Projects,
    registry: CachedRegistry,
    limit: Limit = 20,
    after: After = "",
    order: Sorted = "desc",
) -> ObjectList[Project]:
    """List the agents' own directories, of agents that live workers serve, then the projects by age."""
    known = await registry.look()
    own = [known.agents[name] for name in known.served if name in known.agents]
    names = [agent.name for agent in own]
    is_own = after in names
    shown = own[names.index(after) + 1 :] if is_own else own if not after else []
    data = [_own(agent) for agent in shown[:limit]]
    has_more = len(shown) > limit
    left = max(1, limit - len(data))
    page = await projects.page(tenant, limit=left, after="" if is_own else after, order=order)
    if len(data) < limit:
        data += [_project(record, known.agents.get(record.agent)) for record in page.records]
        has_more = page.has_more
    elif page.records:
        has_more = True
    return page_of(data, [project.id for project in data], has_more=has_more)


@post("/v1/projects", status_code=200, tags=_TAGS, opt=RUN)
async def create_project(
    request: Request[Any, Any, Any], tenant: str, projects: Projects, registry: CachedRegistry
) -> Project:
    """Make a private working copy of an agent's directory, to be named as `project_id` of a request."""
    body, _ = decode_body(await request.body(), CreateProject)
    choice = await choose(body.agent, registry, None)
    if choice.agent != body.agent:
        said = f"A project is one agent's: 'agent' must be its name, such as {choice.agent!r}."
        raise ApiError(400, said, param="agent", code="invalid_value")
    metadata = checked_metadata(body.metadata)
    made = await projects.create(tenant, name=body.name or "", agent=choice.agent, metadata=metadata)
    return _project(made, (await registry.look()).agents.get(made.agent))


@get("/v1/projects/{project_id:str}", tags=_TAGS, opt=READ)
async def retrieve_project(
    project_id: str, tenant: str, projects: Projects, registry: CachedRegistry
) -> Project:
    """Show a project."""
    known = await registry.look()
    if project_id in known.served and project_id in known.agents:
        return _own(known.agents[project_id])
    record = await projects.find(tenant, project_id)
    return _project(record, known.agents.get(record.agent))


@delete("/v1/projects/{project_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_project(
    project_id: str, tenant: str, projects: Projects, registry: CachedRegistry
) -> Deleted:
    """Delete a project and its files, and end what runs in it. An agent's own directory stays."""
    if project_id in (await registry.look()).served:
        said = "This is an agent's own directory; it cannot be deleted through the API."
        raise ApiError(400, said, param="project_id", code="unsupported")
    record = await projects.find(tenant, project_id)
    await projects.delete(tenant, record.id)
    return Deleted(record.id, "project.deleted")


def _own(agent: AgentRecord) -> Project:
    return Project(
        id=agent.name,
        name=agent.name,
        agent=agent.name,
        description=agent.description,
        created_at=agent.created,
    )


def _project(record: ProjectRecord, agent: AgentRecord | None) -> Project:
    return Project(
        id=record.id,
        name=record.name,
        agent=record.agent,
        description=agent.description if agent is not None else "",
        created_at=record.created_ms // 1000,
        state=record.state.value,
        error=record.error or None,
        metadata=record.metadata,
        is_default=False,
    )
