"""Batches with their progress and failed lines, and the files that go in and come out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import msgspec
from litestar import Request, Response, get, post

from api.access import READ, RUN
from api.conversations import unknown_place
from api.dashboard.page import go, page
from api.errors import ApiError
from api.openai.batches.service import Batches
from api.openai.pages import After
from shared.batches.records import Batch
from shared.blobs import BlobGoneError
from shared.conversations import UnknownPlaceError
from shared.files import Files, StoredFile

_PAGE = 30
_MOST_FILES = 100
_MOST_FAILED = 50
_MOST_BYTES = 256 * 1024
"""Of a file of errors, as much is looked through for what to show."""


class FailedLine(msgspec.Struct, frozen=True):
    """A line that gave no answer, and why."""

    custom_id: str
    said: str


@get("/batches", opt=READ)
async def batches_page(
    request: Request[Any, Any, Any], tenant: str, batches: Batches, files: Files, after: After = ""
) -> Response[str]:
    """Show batches, the newest first, and files."""
    try:
        found, has_more = await batches.store.page(tenant, limit=_PAGE, after=after)
    except UnknownPlaceError as error:
        raise unknown_place(after) from error
    stored = await _newest(files, tenant)
    return page(
        request, "batches.html", title="Batches and files", batches=found, has_more=has_more, files=stored
    )


@get("/batches/{batch_id:str}", opt=READ)
async def batch_page(
    request: Request[Any, Any, Any], batch_id: str, tenant: str, batches: Batches, files: Files
) -> Response[str]:
    """Show a batch and the lines that failed."""
    batch = await _find(batch_id, tenant, batches)
    failed = await _failed_lines(files, tenant, batch.error_file_id) if batch.error_file_id else []
    return page(request, "batch.html", title="Batch", batch=batch, failed=failed)


@post("/batches/{batch_id:str}/cancel", status_code=200, opt=RUN)
async def cancel_batch_page(batch_id: str, tenant: str, batches: Batches) -> Response[Any]:
    """End a batch; what was done is kept."""
    await _find(batch_id, tenant, batches)
    await batches.store.cancel(tenant, batch_id)
    return go(f"/dashboard/batches/{batch_id}")


async def _find(batch_id: str, tenant: str, batches: Batches) -> Batch:
    batch = await batches.store.get(tenant, batch_id)
    if batch is None:
        raise ApiError(404, "There is no such batch.", code="batch_not_found")
    return batch


async def _newest(files: Files, tenant: str) -> list[StoredFile]:
    found: list[StoredFile] = []
    async for stored in files.all(tenant, after="", order="desc"):
        found.append(stored)
        if len(found) >= _MOST_FILES:
            break
    return found


async def _failed_lines(files: Files, tenant: str, file_id: str) -> list[FailedLine]:
    """The first lines of a file of errors; none when it is gone."""
    beginning = b""
    try:
        async with aclosing(files.read(tenant, file_id)) as pieces:
            beginning = await _beginning(pieces)
    except BlobGoneError:
        return []
    lines = beginning.split(b"\n")[: _MOST_FAILED + 1]
    return [_failed(line) for line in lines[:-1][:_MOST_FAILED]]


async def _beginning(pieces: AsyncIterator[bytes]) -> bytes:
    gathered = b""
    async for piece in pieces:
        gathered += piece
        if len(gathered) >= _MOST_BYTES:
            break
    return gathered[:_MOST_BYTES]


def _failed(line: bytes) -> FailedLine:
    try:
        told: dict[str, Any] = json.loads(line)
    except ValueError:
        return FailedLine("", "This line cannot be read.")
    body = (told.get("response") or {}).get("body") or {}
    error = told.get("error") or (body.get("error") if isinstance(body, dict) else None) or {}
    said = error.get("message") or error.get("code") or "No reason was given."
    return FailedLine(str(told.get("custom_id", "")), str(said))
