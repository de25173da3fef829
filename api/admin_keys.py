"""`/v1/admin/keys`: make, look at, rotate and revoke API keys. Needs a key with the scope `admin`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from litestar import Request, delete, get, post
from msgspec import UNSET, Meta, UnsetType

from api.access import ADMIN
from api.errors import ApiError
from shared.keys import Grant, KeyRecord, KeyStore, Limits, UnknownKeyError

_TAGS = ["Keys"]
_Body = TypeVar("_Body", bound=msgspec.Struct)
_DAY_S = 86_400.0


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key. Times are in seconds since the epoch, null for never; `secret` comes with a new one only."""

    id: str
    name: str
    tenant: str
    shown: str
    scopes: list[str]
    agents: list[str] | None
    may: list[str]
    cache: bool | None
    limits: Limits
    created: int
    expires: int | None
    last_used: int | None
    revoked: int | None
    old_secret_until: int | None
    secret: str | UnsetType = UNSET
    object: Literal["api_key"] = "api_key"


class KeyList(msgspec.Struct, frozen=True):
    """All keys, the oldest first."""

    data: list[Key]
    object: Literal["list"] = "list"


class RotateKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST …/rotate`: how long the old secret stays good, in seconds."""

    overlap_s: Annotated[float, Meta(ge=0, le=30 * _DAY_S)] = _DAY_S


@get("/v1/admin/keys", tags=_TAGS, opt=ADMIN)
async def list_keys(keys: KeyStore) -> KeyList:
    """List all keys, revoked ones too."""
    uses = await keys.uses()
    return KeyList([key_of(record, uses) for record in await keys.all()])


@post("/v1/admin/keys", status_code=200, tags=_TAGS, opt=ADMIN)
async def create_key(request: Request[Any, Any, Any], keys: KeyStore) -> Key:
    """Make a key. Its secret is in this answer and nowhere else."""
    record, secret = await keys.create(await _body_of(request, Grant))
    return msgspec.structs.replace(key_of(record, {}), secret=secret)


@get("/v1/admin/keys/{key_id:str}", tags=_TAGS, opt=ADMIN)
async def retrieve_key(key_id: str, keys: KeyStore) -> Key:
    """Show a key."""
    try:
        return key_of(await keys.get(key_id), await keys.uses())
    except UnknownKeyError as error:
        raise key_not_found(key_id) from error


@delete("/v1/admin/keys/{key_id:str}", status_code=200, tags=_TAGS, opt=ADMIN)
async def revoke_key(key_id: str, keys: KeyStore) -> Key:
    """Revoke a key: within a second no replica takes it."""
    try:
        return key_of(await keys.revoke(key_id), await keys.uses())
    except UnknownKeyError as error:
        raise key_not_found(key_id) from error


@post("/v1/admin/keys/{key_id:str}/rotate", status_code=200, tags=_TAGS, opt=ADMIN)
async def rotate_key(key_id: str, request: Request[Any, Any, Any], keys: KeyStore) -> Key:
    """Give a key a new secret; the old one stays good for a while."""
    body = await _body_of(request, RotateKey)
    try:
        record, secret = await keys.rotate(key_id, overlap_s=body.overlap_s)
    except UnknownKeyError as error:
        raise key_not_found(key_id) from error
    return msgspec.structs.replace(key_of(record, await keys.uses()), secret=secret)


def key_of(record: KeyRecord, uses: dict[str, int]) -> Key:
    """A key as it may be shown: without its hashes."""
    return Key(
        id=record.id,
        name=record.name,
        tenant=record.tenant,
        shown=record.shown,
        scopes=list(record.scopes),
        agents=None if record.agents is None else list(record.agents),
        may=list(record.may),
        cache=record.cache,
        limits=record.limits,
        created=record.created,
        expires=record.expires or None,
        last_used=uses.get(record.id),
        revoked=record.revoked or None,
        old_secret_until=record.old_until or None,
    )


def key_not_found(key_id: str) -> ApiError:
    """The answer to an id that is no key's, or a revoked one's."""
    said = f"There is no key with the id '{key_id[:100]}' that could change."
    return ApiError(404, said, param="key_id", code="key_not_found")


async def _body_of(request: Request[Any, Any, Any], kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(await request.body() or b"{}", type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        said = str(error) if isinstance(error, msgspec.ValidationError) else "The body is not JSON."
        raise ApiError(400, said, code="invalid_value") from error
