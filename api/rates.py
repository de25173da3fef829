"""Limits as clients see them: `x-ratelimit-…` headers, and 429 with the time to wait."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from api.errors import ApiError
from api.principal import Principal
from api.tracing import traceparent_in
from shared.accounts import LimitReachedError, Standing
from shared.keys import Limits

_STATE = "rates"
_SOON_S = 1.0
_OF = {
    "requests": ("requests_per_minute", "requests_per_day", "requests_per_month"),
    "tokens": ("tokens_per_minute", "tokens_per_day"),
}
_WORDS = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "requests_per_day": "requests per day (UTC)",
    "tokens_per_day": "tokens per day (UTC)",
    "requests_per_month": "requests per month (UTC)",
    "concurrent_runs": "requests at a time",
    "queued_runs": "requests waiting at a time",
    "usd_per_day": "USD per day (UTC)",
    "usd_per_month": "USD per month (UTC)",
}
_SHORT = frozenset({"requests_per_minute", "tokens_per_minute", "concurrent_runs", "queued_runs"})
"""Limits that waiting helps with; beyond the others the key's quota is used up."""


class Caller(msgspec.Struct, frozen=True):
    """For whom runs are submitted; `scope` is the request's, whose answer tells of the limits."""

    principal: Principal
    scope: dict[str, Any]

    @property
    def traceparent(self) -> str:
        """The trace that the request is part of."""
        return traceparent_in(self.scope)

    def note(self, standing: Standing | None) -> None:
        """Keep how the key stands for the headers of the answer."""
        if standing is not None:
            self.scope.setdefault("state", {})[_STATE] = rate_headers(self.principal.limits, standing)


async def add_rate_headers(message: Message, scope: Scope) -> None:
    """Put the headers on whatever answer begins; for `before_send`."""
    noted = scope.get("state", {}).get(_STATE)
    if noted and message["type"] == "http.response.start":
        headers = MutableScopeHeaders.from_message(message)
        for name, value in noted.items():
            headers[name] = value


def rate_headers(limits: Limits, standing: Standing) -> dict[str, str]:
    """Of requests and of tokens the limit that leaves the least."""
    headers: dict[str, str] = {}
    for what, names in _OF.items():
        bounds = [(name, int(getattr(limits, name))) for name in names if getattr(limits, name) is not None]
        if not bounds:
            continue
        name, bound = min(bounds, key=lambda each: each[1] - standing.used(each[0]))
        headers[f"x-ratelimit-limit-{what}"] = str(bound)
        headers[f"x-ratelimit-remaining-{what}"] = str(max(0, int(bound - standing.used(name))))
        headers[f"x-ratelimit-reset-{what}"] = go_duration(standing.reset_ms(name))
    return headers


def beyond_limit(error: LimitReachedError, limits: Limits) -> ApiError:
    """429: `rate_limit_exceeded` where waiting helps, `insufficient_quota` where a day or more would."""
    is_short = error.limit in _SHORT
    bound = getattr(limits, error.limit)
    reset_s = error.standing.reset_ms(error.limit) / 1000 or _SOON_S
    used = f"{error.standing.used(error.limit):g}"
    said = f"This API key may have {bound:g} {_WORDS[error.limit]}; it has had {used}."
    return ApiError(
        429,
        said + (" Try again later." if is_short else ""),
        type="rate_limit_error" if is_short else "insufficient_quota",
        code="rate_limit_exceeded" if is_short else "insufficient_quota",
        retry_after_s=reset_s,
        is_retryable=is_short,
    )


def go_duration(ms: int) -> str:
    """A time as Go writes it, as OpenAI does: `120ms`, `1.5s`, `6m0s`, `23h59m1s`."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
