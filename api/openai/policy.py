"""What becomes of request fields that a Claude agent cannot honour: refused by name, or ignored by name.

`docs/api.md` has the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.conversations import Thread
from api.errors import ApiError
from api.openai.wire import ChatRequest, StreamOptions
from shared.runs import Effort, Tier

_MOST_METADATA = 16
MOST_CHOICES = 8
_TIERS = frozenset({"auto", "default", "flex", "priority", "scale", "fast"})
_WAITS_AS: dict[str, Tier] = {"priority": "priority", "fast": "priority", "flex": "flex"}
_EFFORTS: dict[str, Effort] = {
    "none": "none",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "xhigh",
    "max": "max",
}


def ignored_fields(request: ChatRequest, unknown: Sequence[str]) -> list[str]:
    """The fields that were sent and have no effect, sorted; raises `ApiError` 400 for what is refused.

    A value that asks for nothing (a penalty of 0) is not named.
    """
    _refuse(request)
    asked = {
        "logit_bias": any((request.logit_bias or {}).values()),
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "stream_options": request.stream_options is not None and not request.stream,
        "web_search_options": request.web_search_options is not None,
    }
    return sorted([*unknown, *(name for name, is_asked in asked.items() if is_asked)])


def includes_usage(options: StreamOptions | None) -> bool:
    """Whether the client wants the usage at the end of a stream."""
    return options is not None and bool(options.include_usage)


def choices_of(request: ChatRequest, thread: Thread | None) -> int:
    """How many runs to make; raises `ApiError` 400."""
    count = 1 if request.n is None else request.n
    if not 1 <= count <= MOST_CHOICES:
        said = f"'n' must be from 1 to {MOST_CHOICES}."
        raise ApiError(400, said, param="n", code="invalid_value")
    if count > 1 and thread is not None and thread.conversation:
        raise ApiError(
            400, "A conversation goes on in one way: n must be 1.", param="n", code="invalid_value"
        )
    return count


def tier_of(request: ChatRequest) -> Tier:
    """What the request waits behind; who may ask for `priority` is settled when it is queued."""
    return _WAITS_AS.get(request.service_tier or "", "default")


def effort_of(request: ChatRequest) -> Effort | None:
    """The `reasoning_effort` in Claude's words; raises `ApiError` 400."""
    if request.reasoning_effort is None:
        return None
    if request.reasoning_effort not in _EFFORTS:
        said = f"'reasoning_effort' must be one of {', '.join(_EFFORTS)}."
        raise ApiError(400, said, param="reasoning_effort", code="invalid_value")
    return _EFFORTS[request.reasoning_effort]


def _refuse(request: ChatRequest) -> None:
    if request.logprobs:
        raise _unsupported("logprobs")
    if request.top_logprobs:
        raise _unsupported("top_logprobs")
    if request.audio is not None or "audio" in (request.modalities or ()):
        param = "modalities" if "audio" in (request.modalities or ()) else "audio"
        raise ApiError(400, "An agent answers in text.", param=param, code="unsupported_value")
    for name in ("frequency_penalty", "presence_penalty"):
        if not -2 <= (getattr(request, name) or 0.0) <= 2:
            raise ApiError(400, f"'{name}' must be from -2 to 2.", param=name, code="invalid_value")
    if len(request.metadata or ()) > _MOST_METADATA:
        said = f"'metadata' may have at most {_MOST_METADATA} entries."
        raise ApiError(400, said, param="metadata", code="object_above_max_properties")
    if request.service_tier not in {None, *_TIERS}:
        said = f"'service_tier' must be one of {', '.join(sorted(_TIERS))}."
        raise ApiError(400, said, param="service_tier", code="invalid_value")


def _unsupported(param: str) -> ApiError:
    said = f"Unsupported parameter: '{param}' is not supported with this model."
    return ApiError(400, said, param=param, code="unsupported_parameter")
