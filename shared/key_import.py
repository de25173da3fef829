"""Keys that an operator brings along: from the environment or a file, in the shapes that are about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from shared.keys import Grant, Limits, Scope
from shared.settings import Settings

_SHORTEST = 8


class KeyImportError(Exception):
    """What was given is no list of keys; the message says where, and shows no key."""


class Imported(NamedTuple):
    """A secret, and what it is to be good for."""

    secret: str
    grant: Grant


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key of a list; `max_requests` counts for each `period`."""

    key: Annotated[str, Meta(min_length=_SHORTEST, max_length=500)]
    name: str = ""
    description: str = ""
    max_requests: Annotated[int, Meta(ge=1)] | None = None
    period: Literal["minute", "day", "month"] = "day"
    tenant: str = ""
    scopes: tuple[Scope, ...] = ("run", "read")
    agents: tuple[str, ...] | None = None
    limits: Limits = Limits()
    cache: bool | None = None


def given_keys(settings: Settings) -> list[Imported]:
    """The keys of `api_keys` and `api_keys_file`; raises `KeyImportError`."""
    given = parse_keys(settings.api_keys, "api_keys") if settings.api_keys else []
    if settings.api_keys_file is not None:
        given += read_keys(settings.api_keys_file)
    return given


def read_keys(path: Path) -> list[Imported]:
    """The keys in a file; raises `KeyImportError`."""
    try:
        return parse_keys(path.read_text("utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise KeyImportError(f"Cannot read the keys in {path}: {type(error).__name__}.") from error


def parse_keys(text: str, where: str) -> list[Imported]:
    """Read a JSON list of keys or of objects, a JSON object of either, or keys with commas between.

    An object has `key`, `name` or `description`, `max_requests` and `period`, `limits`, `scopes`, `agents`,
    `tenant`, `cache`. Raises `KeyImportError`, in which `where` is named.
    """
    text = text.strip()
    if not text.startswith(("[", "{")):
        raw: object = [part.strip() for part in text.split(",") if part.strip()]
    else:
        try:
            raw = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise KeyImportError(f"The keys in {where} are not the JSON they begin as.") from None
    entries = [_entry(each, number, where) for number, each in enumerate(_listed(raw), 1)]
    return [Imported(entry.key, _grant(entry)) for entry in entries]


def _listed(raw: object) -> list[Any]:
    if isinstance(raw, dict):
        for name in ("keys", "api_keys"):
            if isinstance(raw.get(name), list):
                return list(raw[name])
        if "key" in raw:
            return [raw]
        return [_of_pair(key, value) for key, value in raw.items()]
    return list(raw) if isinstance(raw, list) else []


def _of_pair(key: str, value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"key": key, **value}
    return {"key": key, "description": value} if isinstance(value, str) else {"key": key}


def _entry(raw: object, number: int, where: str) -> _Entry:
    try:
        return msgspec.convert({"key": raw} if isinstance(raw, str) else raw, _Entry)
    except msgspec.ValidationError as error:
        raise KeyImportError(f"Key {number} in {where}: {error}.") from None


def _grant(entry: _Entry) -> Grant:
    limits = entry.limits
    if entry.max_requests is not None:
        limits = msgspec.structs.replace(limits, **{f"requests_per_{entry.period}": entry.max_requests})
    return Grant(
        name=entry.name or entry.description,
        tenant=entry.tenant,
        scopes=entry.scopes,
        agents=entry.agents,
        limits=limits,
        cache=entry.cache,
    )
