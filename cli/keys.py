"""`backline keys`: make, list, show, rotate, revoke and import API keys, in Redis itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import msgspec
from cyclopts import App, Parameter

from cli.errors import CommandError
from cli.redis_in_use import Data, RedisUrl, on_redis
from cli.tables import Json, moment, print_fields, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from shared.keys import KeyRecord, KeyStore
    from shared.settings import Settings

keys = App(name="keys", help="API keys: make, list, show, rotate, revoke, import.")

Names = Annotated[list[str] | None, Parameter(negative=())]
_DAY_S = 86_400


@keys.command
def create(
    *,
    name: str = "",
    tenant: str = "",
    scope: Names = None,
    agent: Names = None,
    may: Names = None,
    cache: bool | None = None,
    limit: Names = None,
    expires_days: float | None = None,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Make a key and print it. It is shown this once.

    Parameters
    ----------
    name
        What it is for.
    tenant
        Whose conversations, projects and files it sees; if not given, it has its own.
    scope
        run, read, admin or metrics; may be repeated. If not given: run and read.
    agent
        An agent it may use; may be repeated. If not given: all.
    may
        What its requests may widen, as in the setting client_may; may be repeated.
    cache
        Answer its requests from the cache, or not, unless they say otherwise.
    limit
        NAME=NUMBER, such as requests_per_minute=60 or usd_per_day=5; may be repeated.
    expires_days
        Days until it lapses.
    """
    from shared.keys import Grant  # noqa: PLC0415 - imported here so that --help is quick

    wish: dict[str, Any] = {"name": name, "tenant": tenant, "may": may or (), "limits": _limits(limit)}
    wish |= {"scopes": scope} if scope else {}
    wish |= {"agents": agent} if agent else {}
    wish |= {"cache": cache} if cache is not None else {}
    wish |= {"expires_in_s": expires_days * _DAY_S} if expires_days is not None else {}
    grant = _checked(wish, Grant)

    async def work(store: KeyStore) -> None:
        record, secret = await store.create(grant)
        _print_new(record, secret, is_json=json)

    _with_keys(redis_url, data, work, says_where=True)


@keys.command(name="list")
def list_(*, redis_url: RedisUrl = None, data: Data = None, json: Json = False) -> None:
    """List all keys, revoked ones too."""

    async def work(store: KeyStore) -> None:
        uses = await store.uses()
        shown = [_plain(record, uses) for record in await store.all()]
        print_json(shown) if json else _print_keys(shown)

    _with_keys(redis_url, data, work)


@keys.command
def show(key_id: str, /, *, redis_url: RedisUrl = None, data: Data = None, json: Json = False) -> None:
    """Show one key.

    Parameters
    ----------
    key_id
        Its id, as `backline keys list` has it.
    """

    async def work(store: KeyStore) -> None:
        shown = _plain(await store.get(key_id), await store.uses())
        print_json(shown) if json else _print_one(shown)

    _with_keys(redis_url, data, work)


@keys.command
def rotate(
    key_id: str,
    /,
    *,
    overlap_hours: float = 24,
    redis_url: RedisUrl = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Give a key a new secret and print it; the old one stays good for a while.

    Parameters
    ----------
    key_id
        Its id.
    overlap_hours
        How long the old secret stays good.
    """

    async def work(store: KeyStore) -> None:
        record, secret = await store.rotate(key_id, overlap_s=overlap_hours * 3600)
        _print_new(record, secret, is_json=json)

    _with_keys(redis_url, data, work)


@keys.command
def revoke(key_id: str, /, *, redis_url: RedisUrl = None, data: Data = None) -> None:
    """End a key: a second later no API takes it.

    Parameters
    ----------
    key_id
        Its id.
    """

    async def work(store: KeyStore) -> None:
        say(f"Revoked {(await store.revoke(key_id)).id}.")

    _with_keys(redis_url, data, work)


@keys.command(name="import")
def import_(file: str, /, *, redis_url: RedisUrl = None, data: Data = None) -> None:
    """Take over the keys of a file: a JSON list or object, or keys with commas between.

    Parameters
    ----------
    file
        The file, such as api_keys.json.
    """
    from shared.key_import import KeyImportError, read_keys  # noqa: PLC0415 - imported here so that --help is quick

    try:
        given = read_keys(Path(file))
    except KeyImportError as error:
        raise CommandError(str(error), code=2) from error

    async def work(store: KeyStore) -> None:
        for secret, grant in given:
            await store.import_(secret, grant)
        say(f"Took over {len(given)} keys.")

    _with_keys(redis_url, data, work)


def _with_keys(
    redis_url: str | None,
    data: str | None,
    work: Callable[[KeyStore], Awaitable[None]],
    *,
    says_where: bool = False,
) -> None:
    """Do `work` on the keys that the settings lead to, and say whose they are. Raises CommandError."""
    from shared.keys import KeyStore, UnknownKeyError  # noqa: PLC0415 - imported here so that --help is quick

    async def on_keys(redis: Redis, settings: Settings) -> None:
        try:
            await work(KeyStore(redis))
        except UnknownKeyError as error:
            raise CommandError(f"There is no key {error} that could change or be shown.") from error
        if says_where and settings.redis_url is None:
            whose = f"It is for `backline up` with the data in {settings.data_dir}"
            sys.stderr.write(f"{whose}; the demo neither asks for keys nor knows them.\n")

    on_redis(redis_url, data, on_keys)


def _limits(given: list[str] | None) -> dict[str, float]:
    limits: dict[str, float] = {}
    for each in given or ():
        name, _, number = each.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise CommandError(f"--limit is {each!r}, but must be NAME=NUMBER.", code=2) from None
        limits[name.replace("-", "_")] = int(value) if value.is_integer() else value
    return limits


def _checked(wish: dict[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(wish, kind)
    except msgspec.ValidationError as error:
        from shared.keys import Limits, Scope  # noqa: PLC0415 - only where something is wrong

        known = f"Scopes: {', '.join(get_args(Scope))}. Limits: {', '.join(Limits.__struct_fields__)}."
        raise CommandError(f"{error}. {known}", code=2) from error


def _plain(record: KeyRecord, uses: dict[str, int]) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(record)
    for name in ("hash", "old_hash"):
        shown.pop(name, None)
    return {**shown, "last_used": uses.get(record.id)}


def _print_new(record: KeyRecord, secret: str, *, is_json: bool) -> None:
    if is_json:
        print_json({**_plain(record, {}), "secret": secret})
        return
    say(secret)
    sys.stderr.write(f"This is {record.id}; the key is not shown again.\n")


def _print_keys(shown: list[dict[str, Any]]) -> None:
    rows = []
    for key in shown:
        state = "revoked" if key.get("revoked") else "lapses" if key.get("expires") else ""
        used = moment(key["last_used"]) if key["last_used"] else "never"
        row = (key["id"], key["name"], key.get("shown", ""), key["tenant"], ", ".join(key["scopes"]))
        rows.append((*row, used, state))
    print_table(("id", "name", "key", "tenant", "scopes", "last used", "state"), rows)


def _print_one(shown: dict[str, Any]) -> None:
    times = {"created", "expires", "revoked", "old_until", "last_used"}
    print_fields({name: moment(value) if name in times and value else value for name, value in shown.items()})
