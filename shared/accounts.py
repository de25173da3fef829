"""What an API key's runs have used of its limits: reserved before a run, settled in the step that ends it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from redis.asyncio import Redis

from shared import redis_keys as keys
from shared.content import DocumentPart, ImagePart, Part, TextPart, ToolResultPart
from shared.keys import Limits
from shared.runs import RunRequest
from shared.scripts import Scripts, Value

NAMES = Limits.__struct_fields__
"""The limits in the order in which the script takes them."""
_MICRO = 1_000_000
_CHARS_PER_TOKEN = 4
_MEDIA_TOKENS = 1_500
_ANSWER_TOKENS = 500


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of a key. `now_ms` and `minute` (when it began) are Redis's clock, in ms.

    `day` counts from 1970, `month` is 12 times the year and the month; `…_usd` are millionths of a USD.
    """

    now_ms: int = 0
    minute: int
    minute_requests: int
    minute_tokens: int
    day: int
    day_requests: int
    day_tokens: int
    day_usd: int
    month: int
    month_requests: int
    month_usd: int
    runs: int = 0
    waiting: int = 0

    def used(self, limit: str) -> float:
        """What counts for the limit of this name; USD in dollars."""
        match limit:
            case "concurrent_runs":
                return self.runs
            case "queued_runs":
                return self.waiting
            case _:
                what, _, window = limit.partition("_per_")
                counted = int(getattr(self, f"{window}_{what}"))
                return counted / _MICRO if what == "usd" else counted

    def reset_ms(self, limit: str) -> int:
        """When the limit's window ends, in ms from now; 0 for one that has none."""
        match limit.rpartition("_per_")[2]:
            case "minute":
                return max(0, self.minute + 60_000 - self.now_ms)
            case "day":
                return (self.day + 1) * 86_400_000 - self.now_ms
            case "month":
                return _month_begins_ms(self.month + 1) - self.now_ms
            case _:
                return 0


class LimitReachedError(Exception):
    """A run would pass its key's limit of this name; nothing was counted."""

    def __init__(self, limit: str, standing: Standing) -> None:
        super().__init__(limit)
        self.limit = limit
        self.standing = standing


class Accounts:
    """The accounts of keys. Methods raise `redis.RedisError` when Redis does not answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def standing(self, key_id: str) -> Standing:
        """How a key stands now."""
        now_ms, standing = await self._scripts("account", [keys.account(key_id)], [])
        return decode_standing(standing, now_ms)

    async def reset(self, key_id: str) -> None:
        """Begin the key's windows anew; runs that are not over still count as such."""
        await self._redis.delete(keys.account(key_id))


def reservation(request: RunRequest, limits: Limits) -> list[Value]:
    """The end of the submit script's arguments: key, account, tokens, limits."""
    bounds = [_bound(name, getattr(limits, name)) for name in NAMES]
    counts_tokens = limits.tokens_per_minute is not None or limits.tokens_per_day is not None
    tokens = estimated_tokens(request) if counts_tokens else 0
    return [request.key, keys.account(request.key), tokens, *bounds]


def estimated_tokens(request: RunRequest) -> int:
    """About what a run will need: four characters a token, and room for the answer."""
    parts = [*request.prompt, *(part for turn in request.history for part in turn.parts)]
    answer = request.sampling.max_output_tokens or _ANSWER_TOKENS
    return len(request.system or "") // _CHARS_PER_TOKEN + _estimated(parts) + answer


def decode_standing(data: bytes, now_ms: int) -> Standing:
    """Read what the scripts give of an account."""
    return msgspec.structs.replace(_decoder.decode(data), now_ms=now_ms)


def _estimated(parts: Iterable[Part]) -> int:
    tokens = 0
    for part in parts:
        match part:
            case TextPart(text=text) | ToolResultPart(text=text):
                tokens += len(text) // _CHARS_PER_TOKEN + 1
            case DocumentPart(media_type="text/plain", data=text):
                tokens += len(text) // _CHARS_PER_TOKEN + 1
            case ImagePart() | DocumentPart():
                tokens += _MEDIA_TOKENS
            case _:
                tokens += 1
    return tokens


def _bound(name: str, value: float | None) -> int:
    if value is None:
        return -1
    return round(value * _MICRO) if name.startswith("usd") else int(value)


def _month_begins_ms(month: int) -> int:
    year, index = divmod(month - 1, 12)
    return int(datetime(year, index + 1, 1, tzinfo=UTC).timestamp() * 1000)


_decoder = msgspec.json.Decoder(Standing, strict=False)
