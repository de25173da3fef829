"""`DELETE /v1/admin/cache`: forget cached answers. Needs a key with the scope `admin`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete
from litestar.params import QueryParameter

from api.access import ADMIN
from shared.answer_cache import AnswerCache


class Cleared(msgspec.Struct, frozen=True):
    """How many answers were forgotten."""

    cleared: int
    object: str = "cache.cleared"


@delete("/v1/admin/cache", status_code=200, tags=["Operations"], opt=ADMIN)
async def clear_cache(
    cache: AnswerCache,
    of: Annotated[str | None, QueryParameter(name="tenant")] = None,
    agent: Annotated[str | None, QueryParameter(name="agent")] = None,
) -> Cleared:
    """Forget all cached answers, or those of one tenant, one agent, or both."""
    return Cleared(await cache.clear(of, agent))
