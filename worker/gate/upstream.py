"""Where model calls go, and what opens the door there: taken out of the environment, kept from the agents."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from shared.settings import Settings

_ANTHROPIC = "https://api.anthropic.com"
_OWN_HOST = "api.anthropic.com"
_KEYS = {"ANTHROPIC_API_KEY": "x-api-key", "ANTHROPIC_AUTH_TOKEN": "authorization"}
_CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY")
_OFF = {"", "0", "false", "no", "off"}
_HELD_BACK = {*_KEYS, "ANTHROPIC_BASE_URL", "ANTHROPIC_CUSTOM_HEADERS", "CLAUDE_CODE_OAUTH_TOKEN"}


class GateError(Exception):
    """There is no credential that a proxy could add; the message says why."""


class Upstream(msgspec.Struct, frozen=True):
    """The model's service: its address, the headers that open it, and what a CLI is to believe of it."""

    url: str
    headers: dict[str, str]
    variables: tuple[str, ...]
    """The CLI's variables in which its token stands for a credential."""

    @property
    def is_anthropics(self) -> bool:
        """Whether it is Anthropic's own address, rather than a gateway of the operator's."""
        return urlsplit(self.url).hostname == _OWN_HOST


def find_upstream(settings: Settings, environ: Mapping[str, str]) -> Upstream | None:
    """What the proxy adds; `None` when there is to be none. Raises `GateError` when there must be one."""
    if settings.credential_proxy == "off":
        if settings.allowed_models:
            raise GateError("The setting allowed_models is the credential proxy's, which is off.")
        return None
    cloud = next((name for name in _CLOUDS if environ.get(name, "").strip().lower() not in _OFF), "")
    variables = tuple(name for name in _KEYS if environ.get(name, "").strip())
    if not cloud and variables:
        return Upstream(
            url=(environ.get("ANTHROPIC_BASE_URL", "").strip() or _ANTHROPIC).rstrip("/"),
            headers={**_custom(environ), **{_KEYS[name]: _credential(name, environ) for name in variables}},
            variables=variables,
        )
    if settings.credential_proxy == "on" or settings.allowed_models:
        why = f"{cloud} is set" if cloud else f"there is no {' or '.join(_KEYS)}"
        raise GateError(f"The settings ask for the credential proxy, but {why}.")
    return None


def without_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` less what the proxy adds in its stead."""
    return {name: value for name, value in environ.items() if name not in _HELD_BACK}


def outward_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """The HTTP proxy that `environ` names for `url`, unless it excepts its host."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    excepted = (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(",")
    for each in (name.strip().lower().lstrip(".") for name in excepted):
        if each and (each in {"*", host} or host.endswith(f".{each}")):
            return None
    names = (f"{parts.scheme}_proxy", f"{parts.scheme.upper()}_PROXY")
    return next((environ[name] for name in names if environ.get(name, "").strip()), None)


def _credential(name: str, environ: Mapping[str, str]) -> str:
    value = environ[name].strip()
    return f"Bearer {value}" if name == "ANTHROPIC_AUTH_TOKEN" else value


def _custom(environ: Mapping[str, str]) -> dict[str, str]:
    """The operator's own headers, one a line, as the CLI reads them (2.1)."""
    lines = [line.partition(":") for line in environ.get("ANTHROPIC_CUSTOM_HEADERS", "").splitlines()]
    return {name.strip().lower(): value.strip() for name, _, value in lines if name.strip() and value.strip()}
