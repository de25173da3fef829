"""`/v1/runs`: what runs there are, one of them, and its end. Its tenant sees a run, and an admin."""

from __future__ import annotations

from typing import Annotated

from litestar import get, post
from litestar.params import Parameter, QueryParameter

from api.accepted import AcceptedRun
from api.access import READ, RUN
from api.errors import ApiError
from api.openai.pages import Limit
from api.principal import Principal
from api.run_objects import Run, RunList, run_of
from api.runs import Runs
from shared.run_index import NoSuchPlaceError, RunIndex, RunRecord
from shared.runs import RunState

_TAGS = ["Runs"]
_CANCEL_S = 5.0

_STATES = ", ".join(state.value for state in RunState)

_State = Annotated[str, QueryParameter(name="state", description=f"Only runs in this state: {_STATES}.")]
_Only = Annotated[str, Parameter(max_length=200, description="Only runs with this.")]
_Tenant = Annotated[
    str | None,
    QueryParameter(name="tenant", max_length=200, description="Whose runs; unset, an admin sees all."),
]
_Place = Annotated[str, Parameter(max_length=100, description="The id of the run that the page borders on.")]


@get("/v1/runs", tags=_TAGS, opt=READ)
async def list_runs(
    principal: Principal,
    run_index: RunIndex,
    in_state: _State = "",
    agent: _Only = "",
    key: _Only = "",
    of_tenant: _Tenant = None,
    after: _Place = "",
    before: _Place = "",
    limit: Limit = 20,
) -> RunList:
    """List runs, the newest first: one's own, or with the scope `admin` all, or those of `tenant`."""
    if "admin" not in principal.scopes:
        if of_tenant not in {None, principal.tenant}:
            raise _not_yours()
        of_tenant = principal.tenant
    if after and before:
        raise ApiError(400, "Give 'after' or 'before', not both.", param="before", code="invalid_value")
    try:
        page = await run_index.page(
            tenant=of_tenant,
            state=_state_of(in_state),
            agent=agent,
            key=key,
            place=before or after,
            side="before" if before else "after",
            limit=limit,
        )
    except NoSuchPlaceError as error:
        said = f"'{str(error)[:100]}' is not the id of a run."
        raise ApiError(400, said, param="before" if before else "after", code="invalid_value") from error
    return RunList([run_of(run) for run in page.runs], bool(page.place), page.place or None)


@get("/v1/runs/{run_id:str}", tags=_TAGS, opt=READ)
async def retrieve_run(run_id: str, principal: Principal, run_index: RunIndex) -> Run:
    """Show a run, while its record is kept. Nothing tells what was said in it."""
    return run_of(await visible_run(run_id, principal, run_index))


@post("/v1/runs/{run_id:str}/cancel", status_code=200, tags=_TAGS, opt=RUN)
async def cancel_run(run_id: str, principal: Principal, runs: Runs, run_index: RunIndex) -> Run:
    """Cancel a run and show it as it ended; one that is over is shown as it is.

    If its worker has not ended it within some seconds, it is shown as it then stands, `is_cancelling`.
    """
    run = await visible_run(run_id, principal, run_index)
    if await runs.stop(run_id, run.agent):
        await runs.wait_for_end(accepted(run), timeout_s=_CANCEL_S)
        run = await visible_run(run_id, principal, run_index)
    return run_of(run)


async def visible_run(run_id: str, principal: Principal, run_index: RunIndex) -> RunRecord:
    """The run, if it is one that the principal may see; else raises `ApiError` 404."""
    run = await run_index.get(run_id)
    if run is None or ("admin" not in principal.scopes and run.tenant != principal.tenant):
        said = f"There is no run with the id '{run_id[:100]}'."
        raise ApiError(404, said, param="run_id", code="run_not_found")
    return run


def accepted(run: RunRecord) -> AcceptedRun:
    """The run as those who follow it know it."""
    return AcceptedRun(
        id=run.id,
        agent=run.agent,
        created=run.created_ms // 1000,
        project=run.about.project,
        is_batch=run.about.is_batch,
    )


def _state_of(given: str) -> RunState | None:
    try:
        return RunState(given) if given else None
    except ValueError as error:
        said = f"'state' is one of {_STATES}."
        raise ApiError(400, said, param="state", code="invalid_value") from error


def _not_yours() -> ApiError:
    return ApiError(
        403,
        "Only a key with the scope 'admin' sees the runs of other tenants.",
        type="permission_error",
        param="tenant",
        code="insufficient_permissions",
        is_retryable=False,
    )
