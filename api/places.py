"""Where a request is to run: agent, Claude model, project, and the conversation it goes on from."""

from __future__ import annotations

from typing import Protocol

import msgspec

from api.claude_options import ClaudeOptions
from api.conversations import Conversations, Thread
from api.errors import ApiError
from api.models import Choice, choose
from api.openai.added import with_added
from api.working_copies import Projects, in_project
from shared.projects import ProjectRecord
from shared.registry import CachedRegistry
from shared.runs import RunRequest
from shared.settings import Settings

_NO_OPTIONS = ClaudeOptions()


class Place(msgspec.Struct, frozen=True):
    """The agent and model, and the conversation and the project that the request names, if any."""

    choice: Choice
    thread: Thread | None = None
    project: ProjectRecord | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the stored conversation has turns, so that only what is new counts of a request's."""
        return self.thread is not None and self.thread.record.has_begun


class Wish(Protocol):
    """What a request may say of its place, in whichever protocol."""

    @property
    def model(self) -> str:
        """An agent, or a Claude model."""

    @property
    def conversation_id(self) -> str | None:
        """A stored conversation."""

    @property
    def project_id(self) -> str | None:
        """A working copy."""

    @property
    def claude_options(self) -> ClaudeOptions | None:
        """A session, or another Claude model."""


async def find_place(
    wish: Wish,
    *,
    tenant: str,
    conversations: Conversations,
    projects: Projects,
    registry: CachedRegistry,
    settings: Settings,
) -> Place:
    """Resolve what a request says of its place; raises `ApiError` 400, 404 or 503."""
    options = wish.claude_options or _NO_OPTIONS
    thread = await _thread(wish.conversation_id, options, tenant, conversations)
    project = await projects.named(tenant, wish.project_id, thread)
    home = project.agent if project is not None else thread.record.agent if thread is not None else ""
    choice = await choose(wish.model, registry, home or settings.default_agent)
    if options.model is not None:
        choice = choice.with_model(options.model, "claude_options.model")
    if thread is not None:
        thread.require_agent(choice.agent)
    elif options.continue_:
        thread = await conversations.newest(tenant, choice.agent, project.id if project else "")
    return Place(choice, thread, project)


async def put(run: RunRequest, place: Place, conversations: Conversations) -> RunRequest:
    """The translated run with what waits in its conversation, in its project; raises `ApiError` 400."""
    is_elsewhere = (place.project is not None and place.project.id) or run.options.working_dir
    if run.revision and is_elsewhere:
        said = "A revision is of the agent's own directory, and the request names another to run in."
        raise ApiError(400, said, param="model", code="invalid_value")
    if run.conversation:
        run = with_added(run, await conversations.waiting(run.tenant, run.conversation))
    return run if place.project is None else in_project(run, place.project)


async def _thread(
    conversation_id: str | None, options: ClaudeOptions, tenant: str, conversations: Conversations
) -> Thread | None:
    """The stored conversation that the request names by an id, if it names one."""
    named = {
        "conversation_id": conversation_id,
        "claude_options.session_id": options.session_id,
        "claude_options.continue": options.continue_,
    }
    given = [name for name, value in named.items() if value is not None and value is not False]
    if len(given) > 1:
        said = f"Only one of these can say where to go on: {', '.join(given)}."
        raise ApiError(400, said, param=given[1], code="invalid_value")
    if conversation_id is not None:
        return await conversations.by_conversation(tenant, conversation_id)
    if options.session_id is not None:
        return await conversations.by_session(tenant, options.session_id)
    return None
