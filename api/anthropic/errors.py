"""Errors as Anthropic's API says them."""

from __future__ import annotations

from typing import Literal

import msgspec

from api.errors import ApiError

_STATUSES = {502: 500, 503: 529, 507: 500}
"""Anthropic's words for a bad gateway, a service that has no room, and a full disk."""
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's error envelope."""

    type: Literal["error"] = "error"
    error: ErrorDetail
    request_id: str


def status_of(error: ApiError) -> int:
    """The status of Anthropic's own for an error."""
    return _STATUSES.get(error.status, error.status)


def envelope_of(error: ApiError, request_id: str) -> AnthropicError:
    """An error in Anthropic's envelope."""
    kind = _TYPES.get(status_of(error), "invalid_request_error")
    return AnthropicError(error=ErrorDetail(type=kind, message=error.message), request_id=request_id)
