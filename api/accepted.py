"""A run that has been queued, as those know it who submitted it."""

from __future__ import annotations

import msgspec

from api.cached_answers import CacheWord
from shared.runs import Tier


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
