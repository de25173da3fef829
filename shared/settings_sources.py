"""Builds the settings once at start: flags, environment, `.env`, `backline.toml`, defaults, in that order.

Every value keeps its origin, so that a refusal can name the place to mend. `to_environment` is the way back:
it hands a finished `Settings` to a child process without anything on its command line.
"""

from __future__ import annotations

import difflib
import io
import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_type_hints

import msgspec
from dotenv import dotenv_values

from shared.fallbacks import Fallback
from shared.settings import Settings
from shared.settings_values import Refused, to_text, to_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PREFIX = "BACKLINE_"
API_KEY = "BACKLINE_API_KEY"
"""The key that commands bring to the API; no setting."""
CONFIG = "BACKLINE_CONFIG"
"""Path of the TOML file, when it is not `backline.toml` in the working directory."""
KEY_FILE = "api_keys.json"
"""Read for `api_keys_file` when nobody gives that and this is in the working directory."""
_NUMBERED = re.compile(r"BACKLINE_FALLBACK_([1-9][0-9]?)_([A-Z_]+)")
"""One field of a fallback: `BACKLINE_FALLBACK_1_URL`."""
_ALIASES = {"REDIS_URL": "redis_url", "API_KEYS": "api_keys"}
"""Names that others use too."""
DEFAULT = "default"
"""The origin of a setting that nobody gave."""

_TYPES = get_type_hints(Settings, include_extras=True)


class SettingsError(Exception):
    """A setting is unknown or has a bad value; the message is one sentence for the operator."""


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, where each came from, and the environment they were read with."""

    settings: Settings
    origins: dict[str, str]
    """Per field: a flag, an environment variable (and the `.env` it stands in), a TOML path, or `default`."""
    environ: dict[str, str]
    """The process environment with `.env` beneath it: credentials written there reach the agents' CLI."""

    def asked(self, field: str) -> bool:
        """Whether someone gave this setting, as opposed to its default."""
        return self.origins[field] != DEFAULT


class _Given(NamedTuple):
    """One setting as one source gives it."""

    field: str
    shown: str
    """How the operator spells it there: `--port`, `BACKLINE_PORT`, `port`."""
    origin: str
    value: object
    from_text: bool


def load_settings(flags: Mapping[str, object], environ: Mapping[str, str], cwd: Path) -> Loaded:
    """Read all sources and return typed settings.

    `flags` maps field names to values, None for a flag that was not given. Relative paths are relative to
    `cwd`. Raises SettingsError for an unknown name or a bad value.
    """
    merged, said = _all_sources(flags, environ, cwd)
    chosen: dict[str, _Given] = {}
    for given in said:
        if isinstance(given, SettingsError):
            raise given
        chosen.setdefault(given.field, given)
    values = {field: _convert(given, cwd) for field, given in chosen.items()}
    origins = {
        name: chosen[name].origin if name in chosen else DEFAULT for name in Settings.__struct_fields__
    }
    return Loaded(settings=Settings(**values), origins=origins, environ=merged)  # type: ignore[arg-type]


def find_problems(environ: Mapping[str, str], cwd: Path) -> list[str]:
    """All that `load_settings` would refuse, a sentence each; it raises the first."""
    found: list[str] = []
    try:
        chosen: dict[str, _Given] = {}
        for given in _all_sources({}, environ, cwd)[1]:
            if isinstance(given, SettingsError):
                found.append(str(given))
            else:
                chosen.setdefault(given.field, given)
    except SettingsError as error:  # a file that cannot be read: what is below it is not known
        return [*found, str(error)]
    for given in chosen.values():
        try:
            _convert(given, cwd)
        except SettingsError as error:
            found.append(str(error))
    return found


def find_strays(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables that no setting has, but almost: each with the name that was probably meant."""
    known = [CONFIG, API_KEY, *(PREFIX + field.upper() for field in _TYPES)]
    close = {
        name: difflib.get_close_matches(name.upper().replace("-", "_"), known, n=1, cutoff=0.85)
        for name in environ
        if not name.startswith(PREFIX)
    }
    return {name: found[0] for name, found in close.items() if found}


def to_environment(settings: Settings) -> dict[str, str]:
    """Return the `BACKLINE_…` variables from which `load_settings` builds the same settings again."""
    given = ((name, getattr(settings, name)) for name in Settings.__struct_fields__)
    return {PREFIX + name.upper(): to_text(value) for name, value in given if value not in (None, ())}


def to_variables(loaded: Loaded) -> dict[str, str]:
    """Return those settings that flags gave, as the `BACKLINE_…` variables that say the same."""
    given = (name for name, origin in loaded.origins.items() if origin.startswith("--"))
    return {PREFIX + name.upper(): to_text(getattr(loaded.settings, name)) for name in given}


def without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` less every variable that Backline itself reads."""
    return {
        name: value for name, value in environ.items() if not name.startswith(PREFIX) and name not in _ALIASES
    }


def _all_sources(
    flags: Mapping[str, object], environ: Mapping[str, str], cwd: Path
) -> tuple[dict[str, str], Iterator[_Given | SettingsError]]:
    """The environment with `.env` beneath it, and what each source says, the one that wins first."""
    dotenv = _read_dotenv(cwd / ".env")
    merged = {**dotenv, **environ}
    sources = (
        _from_flags(flags),
        _from_environment(environ, origin=None),
        _from_environment(dotenv, origin=cwd / ".env"),
        _from_numbered(merged),
        _from_toml(_toml_path(merged, cwd)),
        _from_key_file(cwd / KEY_FILE),
    )
    return merged, chain.from_iterable(sources)


def _from_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for field, value in flags.items():
        if value not in (None, (), [], ""):
            flag = "--" + {"agents": "agent", "data_dir": "data"}.get(field, field.replace("_", "-"))
            yield _Given(field, flag, flag, value, from_text=True)


def _from_environment(environ: Mapping[str, str], origin: Path | None) -> Iterator[_Given | SettingsError]:
    def given(field: str, name: str) -> _Given:
        return _Given(field, name, f"{name} in {origin}" if origin else name, environ[name], from_text=True)

    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in {CONFIG, API_KEY} or _NUMBERED.fullmatch(name):
            continue
        field = name.removeprefix(PREFIX).lower()
        if field not in _TYPES or name != name.upper():
            known = [CONFIG.removeprefix(PREFIX), *(field.upper() for field in _TYPES)]
            yield SettingsError(_unknown("variable", name, str(origin or "the environment"), known, PREFIX))
        elif environ[name].strip():
            yield given(field, name)
    for name, field in _ALIASES.items():
        if environ.get(name, "").strip():
            yield given(field, name)


def _from_numbered(environ: Mapping[str, str]) -> Iterator[_Given]:
    """The fallbacks that stand in variables of their own, one a field, in the order of their numbers."""
    tables: dict[int, dict[str, object]] = {}
    for name, value in environ.items():
        if (match := _NUMBERED.fullmatch(name)) and value.strip():
            field = match[2].lower()
            if field not in Fallback.__struct_fields__:
                raise SettingsError(_unknown("variable", name, "the environment", ()))
            tables.setdefault(int(match[1]), {})[field] = (
                _pairs(value) if field == "models" else value.strip()
            )
    if tables:
        shown = "BACKLINE_FALLBACK_…"
        yield _Given("fallbacks", shown, shown, [tables[number] for number in sorted(tables)], from_text=True)


def _pairs(text: str) -> dict[str, str]:
    """`agent=model,other=model` as a table."""
    entries = (entry.partition("=") for entry in text.split(",") if entry.strip())
    return {name.strip(): value.strip() for name, _, value in entries}


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"Cannot read {path}: {error}.") from error
    return {
        name: value for name, value in dotenv_values(stream=io.StringIO(text)).items() if value is not None
    }


def _toml_path(environ: Mapping[str, str], cwd: Path) -> Path | None:
    asked = environ.get(CONFIG, "").strip()
    path = cwd / Path(asked or "backline.toml").expanduser()
    if path.is_file():
        return path
    if asked:
        raise SettingsError(f"{CONFIG} names {path}, and there is no such file.")
    return None


def _from_toml(path: Path | None) -> Iterator[_Given | SettingsError]:
    if path is None:
        return
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"Cannot read {path}: {error}.") from error
    for field, value in content.items():
        if field not in _TYPES:
            yield SettingsError(_unknown("setting", field, str(path), _TYPES))
        elif value not in ("", []):
            yield _Given(field, field, str(path), value, from_text=False)


def _from_key_file(path: Path) -> Iterator[_Given]:
    if path.is_file():
        yield _Given("api_keys_file", KEY_FILE, str(path), str(path), from_text=True)


def _convert(given: _Given, cwd: Path) -> object:
    try:
        return to_value(given.field, given.value, _TYPES[given.field], from_text=given.from_text, cwd=cwd)
    except Refused as refused:
        where = (
            "" if given.origin == given.shown else f" in {given.origin.removeprefix(f'{given.shown} in ')}"
        )
        raise SettingsError(
            f"{given.shown}{where} is {refused.given}, but must be {refused.expected}."
        ) from None


def _unknown(kind: str, name: str, origin: str, known: Iterable[str], prefix: str = "") -> str:
    close = difflib.get_close_matches(name.removeprefix(prefix), [*known], n=1)
    hint = f"; did you mean {prefix}{close[0]}?" if close else "."
    return f"Unknown {kind} {name} in {origin}{hint}"
