"""Keys: make one (its secret is shown once), rotate and revoke; and what each has used."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
from litestar import Request, Response, get, post

from api.access import ADMIN
from api.admin_keys import key_not_found, key_of
from api.dashboard.page import go, page
from shared.happenings import Happening, Happenings
from shared.keys import Grant, KeyRecord, KeyStore, Limits, UnknownKeyError
from shared.registry import CachedRegistry
from shared.usage import UsageStore, summed

_DAYS = 30
_OVERLAP_S = 86_400.0


@get("/keys", opt=ADMIN)
async def keys_page(
    request: Request[Any, Any, Any], keys: KeyStore, usage: UsageStore, registry: CachedRegistry
) -> Response[str]:
    """Show keys and usage."""
    return await _page(request, keys, usage, registry)


@post("/keys", status_code=200, opt=ADMIN)
async def make_key(
    request: Request[Any, Any, Any],
    keys: KeyStore,
    usage: UsageStore,
    registry: CachedRegistry,
    happenings: Happenings,
) -> Response[str]:
    """Make a key of the form; its secret stands in this one answer."""
    form = await request.form()
    try:
        grant = grant_of(form, form.getall("scopes", []), form.getall("agents", []))
    except (msgspec.ValidationError, ValueError) as error:
        return await _page(request, keys, usage, registry, error=str(error), status=400)
    record, secret = await keys.create(grant)
    await happenings.note(Happening(kind="key_made", subject=record.id, said=record.name))
    return await _page(request, keys, usage, registry, made=record, secret=secret)


@post("/keys/{key_id:str}/rotate", status_code=200, opt=ADMIN)
async def rotate_key_page(
    request: Request[Any, Any, Any],
    key_id: str,
    keys: KeyStore,
    usage: UsageStore,
    registry: CachedRegistry,
) -> Response[str]:
    """Give a key a new secret; the old one is good for another day."""
    try:
        record, secret = await keys.rotate(key_id, overlap_s=_OVERLAP_S)
    except UnknownKeyError as error:
        raise key_not_found(key_id) from error
    return await _page(request, keys, usage, registry, made=record, secret=secret)


@post("/keys/{key_id:str}/revoke", status_code=200, opt=ADMIN)
async def revoke_key_page(key_id: str, keys: KeyStore, happenings: Happenings) -> Response[Any]:
    """End a key."""
    try:
        record = await keys.revoke(key_id)
    except UnknownKeyError as error:
        raise key_not_found(key_id) from error
    await happenings.note(Happening(kind="key_revoked", subject=record.id, said=record.name))
    return go("/dashboard/keys")


def grant_of(form: Mapping[str, Any], scopes: list[str], agents: list[str]) -> Grant:
    """What a form grants; raises `ValueError` and `msgspec.ValidationError` with words for its author."""
    if not scopes:
        raise ValueError("A key needs at least one scope.")
    days = str(form.get("expires_in_days", "")).strip()
    wish: dict[str, Any] = {
        "name": str(form.get("name", "")).strip(),
        "tenant": str(form.get("tenant", "")).strip(),
        "scopes": scopes,
        "limits": {name: given for name in Limits.__struct_fields__ if (given := _number(form, name))},
    }
    if agents:
        wish["agents"] = agents
    if days:
        wish["expires_in_s"] = float(days) * 86_400
    return msgspec.convert(wish, Grant, strict=False)


def _number(form: Mapping[str, Any], name: str) -> str:
    return str(form.get(name, "")).strip()


async def _page(
    request: Request[Any, Any, Any],
    keys: KeyStore,
    usage: UsageStore,
    registry: CachedRegistry,
    *,
    status: int = 200,
    made: KeyRecord | None = None,
    secret: str = "",
    error: str = "",
) -> Response[str]:
    today = datetime.now(UTC).date()
    first = today - timedelta(days=_DAYS - 1)
    rows, uses = await usage.rows(first, today), await keys.uses()
    records = await keys.all()
    return page(
        request,
        "keys.html",
        status=status,
        title="Keys and usage",
        keys=[key_of(record, uses) for record in sorted(records, key=lambda each: bool(each.revoked))],
        names={record.id: record.name or record.id for record in records},
        agents=sorted((await registry.look()).agents),
        limits=Limits.__struct_fields__,
        by_key=summed(rows, ["key", "agent"]),
        by_day=_every_day(first, {row.day: row.cost_usd for row in summed(rows, ["day"])}),
        first=first.isoformat(),
        last=today.isoformat(),
        made=made,
        secret=secret,
        error=error,
    )


def _every_day(first: date, cost: Mapping[str | None, float]) -> list[tuple[str, float]]:
    days = [(first + timedelta(days=n)).isoformat() for n in range(_DAYS)]
    return [(day, cost.get(day, 0.0)) for day in days]
