"""`/v1/admin/dead-letters`: runs that were given up: look at them, begin them anew, or forget them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar import delete, get, post
from litestar.params import Parameter

from api.access import ADMIN
from api.conversations import unknown_place
from api.errors import ApiError
from api.openai.pages import After, Deleted, Limit
from api.runs import Runs
from api.unattended import Unattended
from shared.conversations import UnknownPlaceError
from shared.dead_letters import DeadLetter, DeadLetters, UnreadableLetterError
from shared.runs import RunRequest, new_run_id

_TAGS = ["Runs"]
_Only = Annotated[str, Parameter(max_length=200, description="Only letters with this.")]
_Reason = Annotated[str, Parameter(min_length=1, max_length=200, description="All letters with this.")]


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead run. Times are in seconds since the epoch by Redis's clock."""

    id: str
    reason: str
    agent: str
    tenant: str
    key: str | None
    attempts: int
    workers: list[str]
    created_at: float
    given_up_at: float
    request_id: str | None
    conversation_id: str | None
    project_id: str | None
    model: str | None
    batch: bool
    retry_of: str | None
    stderr: str | None
    request: Any = msgspec.UNSET
    object: Literal["dead_letter"] = "dead_letter"


class LetterList(msgspec.Struct, frozen=True):
    """Letters, the newest first; `next` is where the next page begins, null where there is none."""

    data: list[Letter]
    has_more: bool
    next: str | None
    object: Literal["list"] = "list"


class Retried(msgspec.Struct, frozen=True):
    """The run that takes up a letter, or why there is none."""

    letter: str
    run: str | None
    error: str | None = None


class RetriedList(msgspec.Struct, frozen=True):
    """What became of several."""

    data: list[Retried]
    object: Literal["list"] = "list"


class Discarded(msgspec.Struct, frozen=True):
    """How many letters were forgotten."""

    discarded: int


class Retries:
    """Begins dead runs anew, for the tenant and the key they were for; no limit of the key holds them up."""

    def __init__(self, letters: DeadLetters, runs: Runs, unattended: Unattended) -> None:
        self._letters = letters
        self._runs = runs
        self._unattended = unattended

    async def retry(self, letter_id: str) -> str:
        """Submit a letter's request as a new run, give its id, and forget the letter.

        Raises `ApiError`. Whatever ends this between its steps, the letter stays, and the next retry finds
        the run that is there.
        """
        try:
            taken = await self._letters.take_up(letter_id, new_run_id())
        except UnreadableLetterError as error:
            said = "The request of this letter cannot be read by this version."
            raise ApiError(409, said, type="conflict_error", code="unreadable") from error
        if taken is None:
            raise letter_not_found(letter_id)
        run_id, request = taken
        run = await self._runs.submit(request, run_id=run_id)
        await self._unattended.add(request.tenant, run)
        await self._letters.discard(letter_id)
        return run_id


@get("/v1/admin/dead-letters", tags=_TAGS, opt=ADMIN)
async def list_letters(
    dead_letters: DeadLetters, reason: _Only = "", agent: _Only = "", after: After = "", limit: Limit = 20
) -> LetterList:
    """List dead letters, the newest first, without their requests."""
    found: list[Letter] = []
    try:
        async for letter in dead_letters.all(reason=reason, agent=agent, after=after):
            found.append(_letter_of(letter))
            if len(found) > limit:
                break
    except UnknownPlaceError as error:
        raise unknown_place(after) from error
    has_more = len(found) > limit
    return LetterList(found[:limit], has_more, found[limit - 1].id if has_more else None)


@get("/v1/admin/dead-letters/{run_id:str}", tags=_TAGS, opt=ADMIN)
async def retrieve_letter(run_id: str, dead_letters: DeadLetters) -> Letter:
    """Show a dead letter with its request, prompt and all."""
    letter = await dead_letters.get(run_id)
    if letter is None:
        raise letter_not_found(run_id)
    try:
        request = await dead_letters.request_of(run_id)
    except UnreadableLetterError:
        request = None
    return msgspec.structs.replace(_letter_of(letter), request=_plain(request))


@post("/v1/admin/dead-letters/{run_id:str}/retry", status_code=200, tags=_TAGS, opt=ADMIN)
async def retry_letter(run_id: str, retries: Retries) -> Retried:
    """Begin a dead run anew: a new run with the same request, whose `retry_of` is the dead one."""
    return Retried(run_id, await retries.retry(run_id))


@delete("/v1/admin/dead-letters/{run_id:str}", status_code=200, tags=_TAGS, opt=ADMIN)
async def discard_letter(run_id: str, dead_letters: DeadLetters) -> Deleted:
    """Forget a dead letter."""
    if not await dead_letters.discard(run_id):
        raise letter_not_found(run_id)
    return Deleted(run_id, "dead_letter")


@post("/v1/admin/dead-letters/retry", status_code=200, tags=_TAGS, opt=ADMIN)
async def retry_letters(
    reason: _Reason, dead_letters: DeadLetters, retries: Retries, agent: _Only = ""
) -> RetriedList:
    """Begin all of a reason anew, the newest first; one that cannot be is named and stays."""
    letters = [letter.id async for letter in dead_letters.all(reason=reason, agent=agent)]
    return RetriedList([await _tried(letter_id, retries) for letter_id in letters])


@delete("/v1/admin/dead-letters", status_code=200, tags=_TAGS, opt=ADMIN)
async def discard_letters(reason: _Reason, dead_letters: DeadLetters, agent: _Only = "") -> Discarded:
    """Forget all of a reason."""
    letters = [letter.id async for letter in dead_letters.all(reason=reason, agent=agent)]
    return Discarded(sum([await dead_letters.discard(letter_id) for letter_id in letters]))


def letter_not_found(letter_id: str) -> ApiError:
    """The answer to an id that is no dead letter's."""
    said = f"There is no dead letter with the id '{letter_id[:100]}'."
    return ApiError(404, said, param="run_id", code="dead_letter_not_found")


async def _tried(letter_id: str, retries: Retries) -> Retried:
    try:
        return Retried(letter_id, await retries.retry(letter_id))
    except ApiError as error:
        return Retried(letter_id, None, error.message)


def _letter_of(letter: DeadLetter) -> Letter:
    about = letter.about
    return Letter(
        id=letter.id,
        reason=letter.reason,
        agent=letter.agent,
        tenant=letter.tenant,
        key=letter.key or None,
        attempts=letter.starts,
        workers=list(letter.workers),
        created_at=letter.created_ms / 1000,
        given_up_at=letter.buried_ms / 1000,
        request_id=about.request_id or None,
        conversation_id=about.conversation or None,
        project_id=about.project or None,
        model=about.model or None,
        batch=about.is_batch,
        retry_of=about.retry_of or None,
        stderr=letter.stderr or None,
    )


def _plain(request: RunRequest | None) -> Any:
    return None if request is None else msgspec.to_builtins(request)
