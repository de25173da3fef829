"""From a line of a batch to the answer that a client of its endpoint would have had."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import structlog
from redis.exceptions import RedisError

from api.errors import ApiError
from api.openai.answer import envelope_of
from api.openai.batches.runs import ItemRuns
from api.principal import principal_of
from api.rates import Caller
from api.runs import Runs
from shared.batches.drive import Announce, Execute, TryAgainError, WithdrawnError
from shared.batches.output import request_id_of
from shared.batches.records import BatchUsage, Item, Outcome
from shared.batches.store import LeaseLostError
from shared.blobs import BlobError
from shared.keys import KeyStore
from shared.settings import Settings

_MOST_TRIES = 5
_FIRST_PAUSE_S = 2.0
_UPSTREAM_IS_BUSY = frozenset({"rate_limit_exceeded", "upstream_overloaded"})
_AGAIN = frozenset({"queue_lost"})
"""Codes after which the same run is looked for again: it may have gone on unseen."""

_log = structlog.get_logger(__name__)


class Answer(msgspec.Struct, frozen=True):
    """A line's answer: JSON, and what it cost."""

    body: bytes
    usage: BatchUsage


class AnswerLine(Protocol):
    """An endpoint, for lines: the request's body into the answer's, by way of `runs`; raises `ApiError`."""

    async def __call__(self, item: Item, request_id: str, runs: ItemRuns) -> Answer:
        """The answer to `item.body`."""


def executor(answer: AnswerLine, runs: Runs, keys: KeyStore, settings: Settings) -> Execute:
    """What a coordinator needs of an endpoint, out of what the endpoint does."""

    async def execute(item: Item, announce: Announce) -> Outcome:
        request_id = request_id_of(item.batch_id, item.number)
        try:
            own = await _runs_for(item, runs, keys)
        except ApiError as error:
            return _failed(error, request_id)
        for attempt in range(_MOST_TRIES):
            if attempt:
                await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1))
            tried = ItemRuns(own, item, attempt, announce, settings.batch_window_s)
            outcome, code = await _try(lambda tried=tried: answer(item, request_id, tried), request_id)  # type: ignore[misc]
            if code not in _UPSTREAM_IS_BUSY:
                break
        return outcome

    return execute


async def _runs_for(item: Item, runs: Runs, keys: KeyStore) -> Runs:
    """The runs as the key that made the batch may have them now; raises `ApiError` 401 when it is no more."""
    if not item.key:
        return runs
    record = await keys.good(item.key)
    if record is None:
        raise ApiError(401, "The API key that made this batch is no longer good.", code="invalid_api_key")
    return runs.on_behalf_of(Caller(principal_of(record), {}))


async def _try(answer: Callable[[], Awaitable[Answer]], request_id: str) -> tuple[Outcome, str | None]:
    """Answer once; gives the outcome, and its error's code if it is one."""
    try:
        made = await answer()
    except ApiError as error:
        if error.is_retryable or error.code in _AGAIN:  # nothing was begun, or it goes on
            raise TryAgainError(error.retry_after_s or 1.0) from error
        failed = _failed(error, request_id)
        if error.code == "run_cancelled":
            raise WithdrawnError(failed) from error
        return failed, error.code
    except (WithdrawnError, LeaseLostError, RedisError, OSError):
        raise
    except BlobError as error:
        raise TryAgainError from error
    except Exception:  # noqa: BLE001 - whatever it is, the line must have an answer
        _log.exception("batch_line_failed", request_id=request_id)
        said = "The server failed on this request; its log has the details under the request id."
        return _failed(ApiError(500, said, type="server_error", code="internal_error"), request_id), None
    return Outcome(status_code=200, request_id=request_id, body=made.body, usage=made.usage), None


def _failed(error: ApiError, request_id: str) -> Outcome:
    body = msgspec.json.encode(envelope_of(error))
    return Outcome(status_code=error.status, request_id=request_id, body=body)
