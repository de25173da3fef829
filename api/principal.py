"""Who asks: what every handler may know of it, and where a request says it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.connection import ASGIConnection, Request

from shared.keys import KeyRecord, Limits, Scope
from shared.settings import ClientRight

_Connection = ASGIConnection[Any, Any, Any, Any]


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """The owner of a request. `key` is its id, empty where no key is needed; `agents` `None` are all."""

    tenant: str = "default"
    key: str = ""
    name: str = ""
    scopes: frozenset[Scope] = frozenset({"run", "read", "admin"})
    agents: frozenset[str] | None = None
    rights: tuple[ClientRight, ...] = ()
    limits: Limits = Limits()
    cache: bool | None = None

    def has(self, scope: str) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or (scope == "metrics" and "admin" in self.scopes)

    def may_use(self, agent: str) -> bool:
        """Whether the agent is one of its own."""
        return self.agents is None or agent in self.agents


ANYONE = Principal()
"""Whoever asks where no key is needed."""


def principal_of(record: KeyRecord) -> Principal:
    """The principal that a key stands for."""
    return Principal(
        tenant=record.tenant,
        key=record.id,
        name=record.name,
        scopes=frozenset(record.scopes),
        agents=None if record.agents is None else frozenset(record.agents),
        rights=record.may,
        cache=record.cache,
        limits=record.limits,
    )


class _Body(msgspec.Struct, frozen=True):
    api_key: str | None = None


async def secret_in(connection: _Connection, *, with_query_and_body: bool) -> str | None:
    """The key that a request brings: `Authorization: Bearer`, `x-api-key`, then, if allowed, `api_key`."""
    kind, _, word = connection.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and word.strip():
        return word.strip()
    if header := connection.headers.get("x-api-key", "").strip():
        return header
    if not with_query_and_body:
        return None
    query: str | None = connection.query_params.get("api_key")
    return query or await _in_body(connection)


async def _in_body(connection: _Connection) -> str | None:
    if not isinstance(connection, Request) or "json" not in connection.headers.get("content-type", ""):
        return None
    try:
        return msgspec.json.decode(await connection.body(), type=_Body).api_key
    except (msgspec.DecodeError, RecursionError):
        return None
