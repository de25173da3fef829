"""An error as bytes in the protocol of the client that it is for."""

from __future__ import annotations

import msgspec
from litestar.types import Scope

from api.anthropic import errors as anthropic
from api.dialect import is_anthropics
from api.errors import ApiError
from api.openai.answer import envelope_of


def status_of(error: ApiError, scope: Scope) -> int:
    """The status."""
    return anthropic.status_of(error) if is_anthropics(scope) else error.status


def body_of(error: ApiError, scope: Scope) -> bytes:
    """The envelope, as JSON."""
    if is_anthropics(scope):
        return msgspec.json.encode(anthropic.envelope_of(error, scope["state"]["request_id"]))
    return msgspec.json.encode(envelope_of(error))
