"""One setting's value: from what an operator wrote to its type, and back to text."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from msgspec import inspect

from shared.webhooks.records import is_secret

if TYPE_CHECKING:
    from collections.abc import Callable

_PLAIN: dict[type[inspect.Type], str] = {inspect.CustomType: "a path", inspect.BoolType: "true or false"}

_SECRET = frozenset({"api_keys", "fallbacks", "webhook_url", "webhook_secret"})
"""Settings that are, or hold, what only the operator may see."""

_HOSTS = "a list of hosts' names, such as example.com, *.example.com or git.example.com:8443"
_FORMS = {"agent_hosts": _HOSTS, "agent_private_hosts": _HOSTS}
"""What the entries of a list look like, where they are no texts of any kind."""


class Refused(ValueError):  # noqa: N818 - caught next door and told as a SettingsError
    """A value that does not fit: `given` as it may be shown, `expected` in words."""

    def __init__(self, given: str, expected: str) -> None:
        super().__init__(f"{given} is not {expected}")
        self.given = given
        self.expected = expected


def to_value(field: str, raw: object, kind: object, *, from_text: bool, cwd: Path) -> object:
    """Convert `raw` to the type `kind`; text (flags, environment) is read leniently, TOML strictly.

    Lists in text are separated by commas, or written as JSON when an entry holds a comma. Raises Refused.
    """
    shape = inspect.type_info(kind)
    try:
        if from_text and isinstance(raw, str):
            raw = raw.strip()
            if isinstance(shape, inspect.VarTupleType):
                raw = _tables(raw) if isinstance(shape.item_type, inspect.StructType) else _split(raw)
        value: object = msgspec.convert(raw, kind, strict=not from_text, dec_hook=_path_in(cwd))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        why = f" ({error})" if field == "fallbacks" else ""
        expected = _FORMS[field] if field in _FORMS else _words(shape) + why
        raise Refused(_shown(field, raw), expected) from error
    numbers = value if isinstance(value, tuple) else (value,)
    if any(isinstance(number, float) and not math.isfinite(number) for number in numbers):
        raise Refused(_shown(field, raw), _words(shape))
    if field == "redis_url" and not _is_redis_url(str(value)):
        raise Refused(_shown(field, raw), "a redis://, rediss:// or unix:// URL")
    if field == "files_url" and not re.fullmatch(r"s3://[a-z0-9.-]{3,63}(?:/[\w./-]*)?", str(value)):
        raise Refused(_shown(field, raw), "a URL like s3://bucket/prefix")
    if field == "webhook_url" and urlsplit(str(value)).scheme not in {"http", "https"}:
        raise Refused(_shown(field, raw), "an https:// or http:// URL")
    if field == "webhook_secret" and not is_secret(str(value)):
        raise Refused(_shown(field, raw), "whsec_ and 24 to 64 bytes in base64")
    return value


def to_text(value: object) -> str:
    """Write a setting as `to_value` reads it from text."""
    if not isinstance(value, tuple):
        return str(value)
    if isinstance(value[0], msgspec.Struct):
        return msgspec.json.encode(value).decode()
    entries = [str(entry) for entry in value]
    plain = not any("," in entry or entry != entry.strip() for entry in entries)
    plain = plain and not entries[0].startswith("[")
    return ",".join(entries) if plain else msgspec.json.encode(entries).decode()


def masked(field: str, value: object) -> str:
    """Write a setting for people, less what is secret in it."""
    text = to_text(value) if value not in (None, ()) else ""
    if field in _SECRET:
        return "…" if text else ""
    return re.sub(r"(?<=://)[^/@\s]*@", "…@", text)


def _split(text: str) -> list[str]:
    if text.startswith("["):
        return msgspec.json.decode(text, type=list[str])
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def _tables(text: str) -> object:
    return msgspec.json.decode(text)


def _path_in(cwd: Path) -> Callable[[type, object], object]:
    def convert(kind: type, value: object) -> object:
        if kind is Path and isinstance(value, str | Path):
            return cwd / Path(value).expanduser()
        raise TypeError(f"not a path: {value!r}")

    return convert


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return (parts.scheme in {"redis", "rediss"} and parts.port != 0) or (
            parts.scheme == "unix" and bool(parts.path)
        )
    except ValueError:  # a port that is none
        return False


def _shown(field: str, raw: object) -> str:
    if field in _SECRET:
        return "'…'"
    if field == "redis_url" and "@" in str(raw):
        return f"'…@{str(raw).rpartition('@')[2]}'"  # what stands before the @ may be a password
    return repr(raw)


def _words(shape: inspect.Type) -> str:
    match shape:
        case inspect.IntType(ge=low, le=high):
            return "a whole number" + _between(low, high)
        case inspect.FloatType():
            return "a number of seconds greater than 0"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.VarTupleType(item_type=item):
            return _list_of(item)
        case inspect.UnionType(types=types):
            return _words(types[0])
        case _:
            return _PLAIN.get(type(shape), "a text")


def _list_of(item: inspect.Type) -> str:
    if isinstance(item, inspect.StructType):
        return "a list of tables (JSON, outside TOML)"
    kinds: dict[type[inspect.Type], str] = {inspect.CustomType: "paths", inspect.FloatType: "seconds"}
    entries = kinds.get(type(item), "texts")
    return f"a list of {entries} (separated by commas, outside TOML)"


def _between(low: int | None, high: int | None) -> str:
    if high is not None:
        return f" from {low} to {high}"
    return f" of at least {low}" if low is not None else ""
