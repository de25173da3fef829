"""Requests that are made again: how a client says so, and how an answer says that it is not a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from litestar import Request
from litestar.datastructures import MutableScopeHeaders
from litestar.types import Message, Scope

from api.errors import ApiError
from api.principal import Principal
from shared.repeats import KeyReusedError, Repeat, RunGoneError, by_key, by_try
from shared.settings import Settings

KEY = "idempotency-key"
_RETRIES = "x-stainless-retry-count"
"""Stainless's SDKs, OpenAI's and Anthropic's among them, count their tries of a request in it, from 0."""
_REPLAYED = "idempotent-replayed"
"""Stripe's name for it."""
_LONGEST_KEY = 255


async def repeat_of(
    request: Request[Any, Any, Any], who: Principal, settings: Settings, content: bytes | None = None
) -> Repeat | None:
    """How a request to make something can be found again, if it can; raises `ApiError` 400.

    `content` stands for a body that is read only once.
    """
    if request.method != "POST":
        return None
    key, tries = request.headers.get(KEY), request.headers.get(_RETRIES, "")
    scope = f"{who.tenant}\0{who.key}"
    if key is not None:
        check_key(request)
        body = _canonical(await request.body()) if content is None else content
        asked = request.url.path.encode() + b"\n" + body
        return by_key(scope, key, asked, settings.idempotency_ttl_s)
    if not settings.retry_window_s or not tries.isascii() or not tries.isdigit():
        return None
    asked = request.url.path.encode() + b"\n" + (await request.body() if content is None else content)
    return by_try(scope, asked, settings.retry_window_s, is_retry=bool(tries.strip("0")))


def note_replay(state: dict[str, Any]) -> None:
    """Have the answer say that it is that of an earlier request; `state` is its scope's."""
    state[_REPLAYED] = True


async def add_replay_header(message: Message, scope: Scope) -> None:
    """Put it on the answer; for `before_send`."""
    if message["type"] == "http.response.start" and scope.get("state", {}).get(_REPLAYED):
        MutableScopeHeaders.from_message(message)[_REPLAYED] = "true"


@contextmanager
def repeat_refusals() -> Iterator[None]:
    """Turn what a store raises of a repeated request into `ApiError`."""
    try:
        yield
    except KeyReusedError as error:
        raise _key_reused() from error
    except RunGoneError as error:
        raise _run_gone() from error


def _key_reused() -> ApiError:
    """The answer to a key that was used for something else (422: the IETF's draft of the header)."""
    said = "This idempotency key was used before, with another request. Use a new key for a new request."
    return ApiError(422, said, param="Idempotency-Key", code="idempotency_key_reused", is_retryable=False)


def _run_gone() -> ApiError:
    """The answer to a key whose run is over and no longer kept."""
    said = "The request with this idempotency key was answered before, and its answer is no longer kept."
    return ApiError(409, said, param="Idempotency-Key", code="idempotent_answer_gone", is_retryable=False)


def check_key(request: Request[Any, Any, Any]) -> None:
    """Raises `ApiError` 400 when the request's idempotency key cannot be one."""
    key = request.headers.get(KEY)
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        said = f"An idempotency key has from 1 to {_LONGEST_KEY} characters."
        raise ApiError(400, said, param="Idempotency-Key", code="invalid_value")


def _canonical(body: bytes) -> bytes:
    """The same bytes for the same JSON, in whatever order its fields are."""
    try:
        return msgspec.json.encode(msgspec.json.decode(body), order="sorted")
    except (msgspec.MsgspecError, RecursionError, UnicodeError, OverflowError):
        return body
