"""Who may ask a stack with keys: an owner, another tenant, an admin, and somebody without a key."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import httpx

from shared.keys import Grant, KeyStore
from shared.redis import connect
from tests.support.stack import Stack


class Party(NamedTuple):
    """A key, its id, and the headers it goes by."""

    secret: str
    id: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"} if self.secret else {}


class Parties(NamedTuple):
    owner: Party
    other: Party
    admin: Party
    spare: Party
    """A key that an admin may spoil."""
    nobody: Party = Party("")


def new_parties(stack: Stack) -> Parties:
    """Keys of four tenants."""
    return asyncio.run(_made(stack))


async def _made(stack: Stack) -> Parties:
    redis = connect(stack.redis_url)
    try:
        keys = KeyStore(redis)
        grants = (Grant(), Grant(), Grant(scopes=("run", "read", "admin")), Grant())
        made = [await keys.create(grant) for grant in grants]
    finally:
        await redis.aclose()
    return Parties(*(Party(secret, record.id) for record, secret in made))


def asking(stack: Stack, party: Party) -> httpx.Client:
    """A client that shows the party's key."""
    return httpx.Client(base_url=stack.url, headers=party.headers, timeout=50)


def answered(answer: httpx.Response) -> dict[str, Any]:
    """The body of an answer that must be a good one."""
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said
