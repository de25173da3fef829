"""Answers kept for the same question: what makes two questions the same, and where the answers are.

An entry is a tenant's own. Its name is a hash over all that reaches the model, the agent's version included,
so a changed agent finds nothing. Each tenant has bounds of its own; the least recently used entry goes first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.run_events import (
    CallDelta,
    CallStarted,
    RunCompleted,
    RunEvent,
    TextDelta,
    ThinkingDelta,
    ToolFinished,
    ToolStarted,
    Usage,
    decode_event,
    encode_event,
)
from shared.runs import RunRequest
from shared.scripts import Scripts, Value
from shared.settings import Settings

_FORMAT = "1"
_PIECE = 256
"""Characters that neighbouring pieces of a text are joined up to: an answer from here streams too."""
_MOST_BYTES = 1024 * 1024
"""Of one entry."""
_SCAN = 500

_encoder = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(list[bytes])


class AnswerCache:
    """The entries in Redis. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._bounds = (settings.cache_entries, settings.cache_bytes)

    async def get(self, tenant: str, name: str) -> list[RunEvent] | None:
        """What was answered, to its end; `None` when there is no such entry (any more)."""
        data = await self._scripts("cache_get", _names(tenant, name), [name])
        return [decode_event(event) for event in _decoder.decode(data)] if data else None

    async def put(self, tenant: str, name: str, events: Sequence[RunEvent], *, ttl_s: float) -> bool:
        """Keep an answer for `ttl_s` seconds; `False` when it is too large."""
        data = _encoder.encode([encode_event(event) for event in events])
        if len(data) > min(_MOST_BYTES, self._bounds[1]):
            return False
        args: list[Value] = [
            name,
            data,
            len(data),
            max(1, int(ttl_s * 1000)),
            *self._bounds,
            keys.cached(keys.owner(tenant), ""),
        ]
        await self._scripts("cache_put", _names(tenant, name), args)
        return True

    async def clear(self, tenant: str | None = None, agent: str | None = None) -> int:
        """Forget all answers, or those of a tenant, an agent, or both; gives how many there were.

        In steps of some hundred: Redis serves others in between.
        """
        if tenant is not None:
            return await self._clear(keys.owner(tenant), agent)
        prefix = keys.cache_used("")
        found = [name.decode() async for name in self._redis.scan_iter(keys.ANY_CACHE_USED, count=_SCAN)]
        return sum([await self._clear(name.removeprefix(prefix), agent) for name in set(found)])

    async def _clear(self, owned_by: str, agent: str | None) -> int:
        indexes = _indexes(owned_by)
        match = None if agent is None else f"{_literal(agent)}:*"
        scan = self._redis.zscan_iter(indexes[0], match, count=_SCAN)
        names = list({name async for name, _ in scan})
        cleared = 0
        for at in range(0, len(names), _SCAN):
            some = names[at : at + _SCAN]
            cleared += await self._scripts("cache_drop", indexes, [keys.cached(owned_by, ""), *some])
        return cleared


def entry_name(request: RunRequest, version: str) -> str:
    """The name of the answer to a request by this version of its agent; empty when there can be none.

    It begins with the agent's name and a colon, by which an agent's answers are found.

    What is in a stored conversation, a session or a project is not in the request, nor are files in
    directories and servers that it names. `version` is that of the agent's directory, not of a revision.
    """
    options = request.options
    is_elsewhere = (
        request.conversation or request.session or request.items or request.project or request.revision
    )
    if not version or is_elsewhere or options.add_dirs or options.mcp_config or options.working_dir:
        return ""
    asked = (
        *(_FORMAT, version, request.tenant, request.agent, request.model, request.system),
        *(request.history, request.prompt, request.sampling, request.timeout_s),
        *(request.tools, request.tool_choice, request.output, options, request.max_tool_calls),
    )
    return f"{request.agent}:{hashlib.sha256(_encoder.encode(asked)).hexdigest()}"


class Recording:
    """What a run says, as far as it may be kept: fed with its events, and asked at its end."""

    def __init__(self, harmless: Iterable[str]) -> None:
        self._harmless = frozenset(harmless)
        self._events: list[RunEvent] = []
        self._size = 0
        self._is_good = True

    def add(self, event: RunEvent) -> None:
        """Take one event in."""
        match event:
            case TextDelta(text=text):
                self._text(TextDelta, text)
            case ThinkingDelta(text=text):
                self._text(ThinkingDelta, text)
            case ToolStarted(name=name, input=given):
                self._is_good = self._is_good and name in self._harmless
                self._keep(event, len(given))
            case ToolFinished():
                self._keep(event, 0)
            case CallStarted() | CallDelta():  # a call's id is for one conversation
                self._is_good = False

    def entry(self, end: RunCompleted) -> list[RunEvent] | None:
        """The run as it may be told again; `None` when it must not be."""
        if not self._is_good or end.finish != "stop" or end.fallback is not None:
            return None
        usage = Usage(
            cache_read_tokens=end.usage.prompt_tokens, output_tokens=end.usage.output_tokens, cost_usd=0.0
        )
        return [*self._events, msgspec.structs.replace(end, usage=usage, session_id="", cache="hit")]

    def _text(self, kind: type[TextDelta | ThinkingDelta], text: str) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(last, kind) and len(last.text) < _PIECE:
            self._events.pop()
            text = last.text + text
        self._keep(kind(text=text), len(text))

    def _keep(self, event: RunEvent, size: int) -> None:
        self._size += size
        self._is_good = self._is_good and self._size <= _MOST_BYTES
        if self._is_good:
            self._events.append(event)


def _names(tenant: str, name: str) -> list[str]:
    owned_by = keys.owner(tenant)
    return [keys.cached(owned_by, name), *_indexes(owned_by)]


def _indexes(owned_by: str) -> list[str]:
    return [keys.cache_used(owned_by), keys.cache_ends(owned_by), keys.cache_sizes(owned_by)]


def _literal(text: str) -> str:
    """As Redis's patterns mean it letter for letter."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
