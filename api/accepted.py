"""A run that has been queued, as those know it who submitted it."""

from __future__ import annotations

import msgspec

from api.cached_answers import CacheWord
from shared.runs import RunRequest, Tier
from shared.submission import Submitted


class AcceptedRun(msgspec.Struct, frozen=True):
    """A run that has been queued; `created` is in seconds since the epoch, by Redis's clock."""

    id: str
    agent: str
    created: int
    project: str = ""
    is_batch: bool = False
    """Whether it waits as long as it takes for a worker."""
    cache: CacheWord = ""
    conversation: str = ""
    is_repeated: bool = False
    """Whether an earlier request has started it, of which this one is a repeat."""
    tier: Tier = "default"


def accepted_run(run_id: str, request: RunRequest, submitted: Submitted, cache: CacheWord) -> AcceptedRun:
    """The run that a request has now, be it one that an earlier request started."""
    found = submitted.found
    return AcceptedRun(
        id=found.run_id if found is not None else run_id,
        agent=found.agent if found is not None else request.agent,
        created=submitted.created_ms // 1000,
        project=request.project,
        is_batch=request.is_batch,
        conversation=found.conversation if found is not None else request.conversation,
        is_repeated=found is not None,
        cache=cache,
        tier=request.tier,
    )
