"""Whether a request's answer is known already: looked up before anything is queued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import structlog
from redis.exceptions import RedisError

from shared.answer_cache import AnswerCache, entry_name
from shared.registry import CachedRegistry
from shared.run_events import RunEvent
from shared.runs import CacheTerms, RunRequest
from shared.settings import Settings

CacheWord = Literal["", "hit", "miss", "bypass"]
"""What the header says; nothing when nobody asked for the cache."""

_log = structlog.get_logger(__name__)


class Looked(msgspec.Struct, frozen=True):
    """What a look gave: the request to submit, the word for its client, and on a hit the events."""

    request: RunRequest
    word: CacheWord = ""
    events: list[RunEvent] | None = None


class CachedAnswers:
    """Looks for answers, as the setting `cache` and the request have it; `note` is told each word."""

    def __init__(
        self,
        cache: AnswerCache,
        registry: CachedRegistry,
        settings: Settings,
        note: Callable[[CacheWord], None] | None = None,
    ) -> None:
        self._cache = cache
        self._note = note or (lambda _: None)
        self._registry = registry
        self._settings = settings

    async def look(self, request: RunRequest, of_key: bool | None = None) -> Looked:
        """Look for the answer to `request`. Its own wish goes before its key's, that before the setting."""
        looked = await self._look(request, of_key)
        self._note(looked.word)
        return looked

    async def _look(self, request: RunRequest, of_key: bool | None = None) -> Looked:
        setting = self._settings.cache
        wishes = [wish for wish in (request.may_cache, of_key) if wish is not None]
        is_asked = wishes[0] if wishes else setting == "on"
        if not is_asked:
            return Looked(request)
        version = (await self._registry.look()).version(request.agent)
        try:
            name = entry_name(request, version) if setting != "off" else ""
        except (OverflowError, RecursionError):  # refused in a moment, in better words
            name = ""
        if not name:
            return Looked(request, "bypass")
        terms = CacheTerms(name=name, ttl_s=self._settings.cache_ttl_s)
        try:
            events = await self._cache.get(request.tenant, name)
        except (RedisError, msgspec.MsgspecError) as error:  # of another version, or away: ask the agent
            _log.warning("cache_not_read", error=str(error))
            events = None
        if events is not None:
            return Looked(request, "hit", events)
        return Looked(msgspec.structs.replace(request, cache=terms), "miss")
