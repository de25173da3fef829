"""Batches in OpenAI's shape."""

from __future__ import annotations

from typing import Literal

import msgspec

from shared.batches.records import Batch, BatchStatus, BatchUsage, Problem


class ExpiresAfter(msgspec.Struct, frozen=True):
    """When files are to go by themselves."""

    anchor: str
    seconds: int


class CreateBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/batches`."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class ProblemList(msgspec.Struct, frozen=True):
    """What is wrong with the input."""

    data: list[Problem]
    object: Literal["list"] = "list"


class RequestCounts(msgspec.Struct, frozen=True):
    """How many lines there are, and how many gave what."""

    total: int
    completed: int
    failed: int


class BatchInputDetails(msgspec.Struct, frozen=True):
    """Input tokens from the cache."""

    cached_tokens: int


class BatchOutputDetails(msgspec.Struct, frozen=True):
    """The CLI does not tell thinking from text."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of all lines so far."""

    input_tokens: int
    input_tokens_details: BatchInputDetails
    output_tokens: int
    output_tokens_details: BatchOutputDetails
    total_tokens: int


class BatchInfo(msgspec.Struct, frozen=True):
    """What only Backline can say: `cost_usd` is the CLI's own sum over all lines so far."""

    cost_usd: float


class BatchObject(msgspec.Struct, frozen=True, kw_only=True):
    """A batch as OpenAI shows it; times are seconds, null until they are reached."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    status: BatchStatus
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: Usage
    backline: BatchInfo
    model: str | None
    errors: ProblemList | None
    output_file_id: str | None
    error_file_id: str | None
    metadata: dict[str, str] | None
    object: Literal["batch"] = "batch"


def batch_object(batch: Batch) -> BatchObject:
    """A batch's record in OpenAI's shape."""

    def at(status: BatchStatus) -> int | None:
        return batch.at[status] // 1000 if status in batch.at else None

    return BatchObject(
        id=batch.id,
        endpoint=batch.spec.endpoint,
        input_file_id=batch.spec.input_file_id,
        completion_window=batch.spec.completion_window,
        status=batch.status,
        created_at=batch.created_ms // 1000,
        in_progress_at=at(BatchStatus.IN_PROGRESS),
        expires_at=batch.expires_ms // 1000,
        finalizing_at=at(BatchStatus.FINALIZING),
        completed_at=at(BatchStatus.COMPLETED),
        failed_at=at(BatchStatus.FAILED),
        expired_at=at(BatchStatus.EXPIRED),
        cancelling_at=at(BatchStatus.CANCELLING),
        cancelled_at=at(BatchStatus.CANCELLED),
        request_counts=RequestCounts(batch.total, batch.completed, batch.failed),
        usage=_usage(batch.usage),
        backline=BatchInfo(batch.usage.cost_usd),
        model=batch.model or None,
        errors=ProblemList(batch.problems) if batch.problems else None,
        output_file_id=batch.output_file_id or None,
        error_file_id=batch.error_file_id or None,
        metadata=batch.spec.metadata,
    )


def _usage(usage: BatchUsage) -> Usage:
    return Usage(
        usage.input_tokens,
        BatchInputDetails(usage.cached_tokens),
        usage.output_tokens,
        BatchOutputDetails(),
        usage.input_tokens + usage.output_tokens,
    )
