"""What a batch is: what was asked for, where it stands, and what a line of it gave."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class BatchStatus(StrEnum):
    """Where a batch is, in OpenAI's words.

    validating → failed | in_progress → finalizing → completed | expired; from the first two by a client's
    wish → cancelling → cancelled. Only the coordinator that holds the batch moves it, but for that wish.
    """

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self in {
            BatchStatus.FAILED,
            BatchStatus.COMPLETED,
            BatchStatus.EXPIRED,
            BatchStatus.CANCELLED,
        }


class BatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked for; `output_ttl_s` is how long the files that come of it are kept, in seconds."""

    endpoint: str
    input_file_id: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_ttl_s: float | None = None
    key: str = ""
    """Id of the key that made it: its agents and limits bound the lines. Empty where none is needed."""


class Problem(msgspec.Struct, frozen=True):
    """Why a batch cannot be begun; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and cost of lines, as their answers told them."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch's record; times are of Redis's clock, in ms. `at` has when each status was entered."""

    id: str
    tenant: str
    spec: BatchSpec
    status: BatchStatus
    created_ms: int
    expires_ms: int
    at: dict[str, int]
    total: int
    completed: int
    failed: int
    problems: list[Problem]
    usage: BatchUsage
    model: str
    output_file_id: str
    error_file_id: str
    gathering: str
    """The status to end in, once no more results are taken; empty before."""
    output_id: str
    error_id: str
    """Ids that the files will have, known from when the gathering began."""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A line to be executed: `body` is JSON, `number` the line's from 1."""

    tenant: str
    batch_id: str
    created_ms: int
    number: int
    custom_id: str
    body: bytes
    key: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a line gave: the answer a client would have had, `body` in JSON."""

    status_code: int
    request_id: str
    body: bytes
    usage: BatchUsage = BatchUsage()


class Lease(msgspec.Struct, frozen=True):
    """The right to move a batch on, until someone takes it after it has lapsed."""

    owner: str
    batch_id: str
    tenant: str
    epoch: int

    @property
    def member(self) -> str:
        """The batch among the open ones."""
        return f"{self.owner}:{self.batch_id}/{self.tenant}"


def read_batch(tenant: str, batch_id: str, fields: Mapping[bytes, bytes]) -> Batch:
    """A batch out of the fields of its record."""
    text = {name.decode(): value for name, value in fields.items()}

    def words(name: str) -> str:
        return text.get(name, b"").decode()

    def number(name: str) -> float:
        return float(text.get(name, b"0"))

    return Batch(
        id=batch_id,
        tenant=tenant,
        spec=msgspec.json.decode(text["spec"], type=BatchSpec),
        status=BatchStatus(words("status")),
        created_ms=int(text["created"]),
        expires_ms=int(text["expires"]),
        at={name.removesuffix("_at"): int(value) for name, value in text.items() if name.endswith("_at")},
        total=int(number("total")),
        completed=int(number("completed")),
        failed=int(number("failed")),
        problems=msgspec.json.decode(text.get("problems", b"[]"), type=list[Problem]),
        usage=_usage(number),
        model=words("model"),
        output_file_id=words("output_file_id"),
        error_file_id=words("error_file_id"),
        gathering=words("gathering"),
        output_id=words("output_id"),
        error_id=words("error_id"),
    )


def _usage(number: Any) -> BatchUsage:
    return BatchUsage(
        input_tokens=int(number("input_tokens")),
        cached_tokens=int(number("cached_tokens")),
        output_tokens=int(number("output_tokens")),
        cost_usd=number("cost_usd"),
    )
