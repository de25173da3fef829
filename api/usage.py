"""What was used: of one's own key, of all keys, and overall."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from litestar import Request, Response, get, post
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema
from litestar.params import QueryParameter

from api.access import ADMIN, ANY_KEY
from api.admin_keys import key_not_found
from api.errors import ApiError
from api.principal import Principal
from shared import redis_keys
from shared.accounts import NAMES, Accounts, Standing
from shared.keys import KeyStore, Limits, UnknownKeyError
from shared.registry import CachedRegistry
from shared.run_store import RunStore
from shared.usage import Group, UsageRow, UsageStore, Used, summed

_TAGS = ["Keys"]
_MOST_DAYS = 400
_From = Annotated[date | None, QueryParameter(name="from", description="First day (UTC); unset: today.")]
_To = Annotated[date | None, QueryParameter(name="to", description="Last day (UTC); unset: today.")]


class Limit(msgspec.Struct, frozen=True):
    """A limit of a key, what counts for it now, and in how many seconds its window ends, if it has one."""

    limit: float
    used: float
    resets_in_s: float | None


class KeyStats(msgspec.Struct, frozen=True, kw_only=True):
    """How a key stands: runs that are not over, its limits, and what it used today."""

    key: str | None
    name: str
    tenant: str
    active_runs: int
    queued_runs: int
    limits: dict[str, Limit]
    today: Used
    object: Literal["api_key.stats"] = "api_key.stats"


class AllKeyStats(msgspec.Struct, frozen=True):
    """The same of every key that is not revoked."""

    data: list[KeyStats]
    object: Literal["list"] = "list"


class Reset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a reset: the id of a key; unset: all."""

    key: str | None = None


class WasReset(msgspec.Struct, frozen=True):
    """How many keys begin anew."""

    reset: int


class UsageList(msgspec.Struct, frozen=True):
    """Rows of usage."""

    data: list[UsageRow]
    object: Literal["list"] = "list"


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Overall counters: runs on workers and in queues now, and all that have ended."""

    active: int
    queued: int
    workers: int
    slots: int
    live_conversations: int
    agents: list[str]
    total: Used


@dataclass
class _JsonOrCsv(Operation):
    """Says in our document that the answer may be a table as well."""

    def __post_init__(self) -> None:
        for status, response in (self.responses or {}).items():
            if status == "200" and isinstance(response, OpenAPIResponse) and response.content is not None:
                response.content["text/csv"] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


@get("/v1/api-key/stats", tags=_TAGS, opt=ANY_KEY)
async def own_stats(principal: Principal, accounts: Accounts, usage: UsageStore) -> KeyStats:
    """Show one's own limits and usage."""
    today = await _used_today(usage)
    return await _stats_of(principal.key, principal.name, principal.tenant, principal.limits, accounts, today)


@get("/v1/api-key/admin/stats", tags=_TAGS, opt=ADMIN)
async def all_stats(keys: KeyStore, accounts: Accounts, usage: UsageStore) -> AllKeyStats:
    """Show the limits and the usage of every key."""
    today = await _used_today(usage)
    return AllKeyStats(
        [
            await _stats_of(key.id, key.name, key.tenant, key.limits, accounts, today)
            for key in await keys.all()
            if not key.revoked
        ]
    )


@post("/v1/api-key/admin/reset", status_code=200, tags=_TAGS, opt=ADMIN)
async def reset_key(request: Request[Any, Any, Any], keys: KeyStore, accounts: Accounts) -> WasReset:
    """Begin the windows of a key's limits anew, or those of all keys; the usage by day stays."""
    try:
        asked = msgspec.json.decode(await request.body() or b"{}", type=Reset).key
        ids = [key.id for key in await keys.all()] if asked is None else [(await keys.get(asked)).id]
    except msgspec.DecodeError as error:
        raise ApiError(400, "The body must be a JSON object with 'key'.", code="invalid_value") from error
    except UnknownKeyError as error:
        raise key_not_found(str(error)) from error
    for key_id in ids:
        await accounts.reset(key_id)
    return WasReset(len(ids))


@get("/v1/admin/usage", tags=_TAGS, opt=ADMIN, operation_class=_JsonOrCsv)
async def list_usage(
    usage: UsageStore,
    first: _From = None,
    last: _To = None,
    group_by: str = "day,key,agent",
    format: Literal["json", "csv"] = "json",  # noqa: A002 - the wire's own word
) -> Response[Any]:
    """List usage by day, key and agent, or summed by some of them, as JSON or CSV."""
    today = datetime.now(UTC).date()
    first, last = first or last or today, last or today
    if not timedelta(0) <= last - first < timedelta(days=_MOST_DAYS):
        said = f"'from' must not be after 'to', and at most {_MOST_DAYS} days before it."
        raise ApiError(400, said, param="from", code="invalid_value")
    by = [name.strip() for name in group_by.split(",") if name.strip()]
    if not by or not set(by) <= set(get_args(Group)):
        said = "'group_by' is one or more of day, key, agent, with commas between."
        raise ApiError(400, said, param="group_by", code="invalid_value")
    rows = summed(await usage.rows(first, last), cast("list[Group]", by))
    if format == "csv":
        return Response(_as_csv(rows, by), media_type="text/csv; charset=utf-8")
    return Response(UsageList(rows))


@get("/stats", tags=["Health"], opt=ADMIN)
async def overall(registry: CachedRegistry, store: RunStore, usage: UsageStore) -> Stats:
    """Show what goes on, and what was done so far."""
    known = await registry.look(fresh=True)
    places = {*known.agents, *(redis_keys.place("", p) for w in known.workers for p in w.projects)}
    active = sum(worker.busy for worker in known.workers)
    unended = await store.count_unended(places)
    return Stats(
        active=active,
        queued=max(0, unended - active),
        workers=len(known.workers),
        slots=sum(worker.slots for worker in known.workers),
        live_conversations=sum(worker.live for worker in known.workers),
        agents=list(known.served),
        total=await usage.total(),
    )


async def _used_today(usage: UsageStore) -> dict[str, Used]:
    today = datetime.now(UTC).date()
    return {row.key or "": row for row in summed(await usage.rows(today, today), ["key"])}


async def _stats_of(
    key_id: str, name: str, tenant: str, limits: Limits, accounts: Accounts, today: dict[str, Used]
) -> KeyStats:
    standing = await accounts.standing(key_id)
    used = today.get(key_id, Used())
    return KeyStats(
        key=key_id or None,
        name=name,
        tenant=tenant,
        active_runs=standing.runs,
        queued_runs=standing.waiting,
        limits={each: _limit(each, getattr(limits, each), standing) for each in NAMES if _has(limits, each)},
        today=Used(**{field: getattr(used, field) for field in Used.__struct_fields__}),
    )


def _has(limits: Limits, name: str) -> bool:
    return getattr(limits, name) is not None


def _limit(name: str, bound: float, standing: Standing) -> Limit:
    reset_ms = standing.reset_ms(name)
    return Limit(bound, standing.used(name), reset_ms / 1000 if reset_ms else None)


def _as_csv(rows: list[UsageRow], by: list[str]) -> str:
    out = io.StringIO()
    columns = [*by, *Used.__struct_fields__]
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([getattr(row, name) for name in columns] for row in rows)
    return out.getvalue()
