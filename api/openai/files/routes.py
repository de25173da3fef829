"""`/v1/files`: upload, list, show, download, delete."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Request, delete, get, post
from litestar.params import Parameter
from litestar.response import Stream

from api.access import READ, RUN
from api.conversations import unknown_place
from api.errors import ApiError
from api.openai.files.upload import Upload, receive, too_large
from api.openai.files.wire import FileObject, expiry_of, file_object, purpose_of
from api.openai.pages import After, Deleted, ObjectList, Sorted, page_of
from api.principal import Principal
from api.repeats import check_key, note_replay, repeat_of, repeat_refusals
from shared.blobs import BlobError, BlobGoneError
from shared.conversations import UnknownPlaceError
from shared.files import Files, StoredFile, new_file_id
from shared.settings import Settings

_TAGS = ["OpenAI"]
_MOST_LISTED = 10_000
FileLimit = Annotated[int, Parameter(ge=1, le=_MOST_LISTED, description="The most files to give.")]


@post("/v1/files", status_code=200, request_max_body_size=None, tags=_TAGS, opt=RUN)
async def create_file(
    request: Request[Any, Any, Any], principal: Principal, files: Files, settings: Settings
) -> FileObject:
    """Upload a file: a form with `file`, `purpose` and, if it is to go by itself, `expires_after`."""
    check_key(request)
    tenant, file_id = principal.tenant, new_file_id()
    try:
        upload = await receive(
            request, partial(files.store, tenant, file_id), most_bytes=settings.max_upload_bytes
        )
        purpose, ttl_s = purpose_of(upload.fields), expiry_of(upload.fields)
        size = _checked_size(upload, purpose, settings)
        asked = msgspec.json.encode((upload.filename, purpose, ttl_s, upload.digest))
        repeat = await repeat_of(request, principal, settings, asked)
    except BaseException:
        with suppress(BlobError):  # what went wrong before is what is told; leftovers are swept
            await files.drop(tenant, file_id)
        raise
    with repeat_refusals():
        stored = await files.add(
            tenant,
            file_id,
            filename=upload.filename,
            purpose=purpose,
            size=size,
            ttl_s=ttl_s,
            repeat=repeat,
        )
    if stored.id != file_id:
        note_replay(request.scope["state"])
    return file_object(stored)


@get("/v1/files", tags=_TAGS, opt=READ)
async def list_files(
    tenant: str,
    files: Files,
    purpose: str | None = None,
    limit: FileLimit = _MOST_LISTED,
    after: After = "",
    order: Sorted = "desc",
) -> ObjectList[FileObject]:
    """List files by age; `purpose` chooses among them."""
    found: list[FileObject] = []
    try:
        async for stored in files.all(tenant, after=after, order=order):
            if purpose in {None, stored.value.purpose}:
                found.append(file_object(stored))
            if len(found) > limit:
                break
    except UnknownPlaceError as error:
        raise unknown_place(after) from error
    data = found[:limit]
    return page_of(data, [one.id for one in data], has_more=len(found) > limit)


@get("/v1/files/{file_id:str}", tags=_TAGS, opt=READ)
async def retrieve_file(file_id: str, tenant: str, files: Files) -> FileObject:
    """Show a file's record."""
    return file_object(await find_file(file_id, tenant, files))


@get("/v1/files/{file_id:str}/content", tags=_TAGS, opt=READ)
async def file_content(file_id: str, tenant: str, files: Files) -> Stream:
    """Download a file, piece by piece."""
    stored = await find_file(file_id, tenant, files)
    pieces = files.read(tenant, file_id)
    try:
        first = await anext(pieces, b"")
    except BlobGoneError as error:
        raise file_not_found(file_id) from error
    headers = {
        "content-length": str(stored.value.size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(stored.value.filename, safe='')}",
        "x-content-type-options": "nosniff",
    }

    async def content() -> AsyncIterator[bytes]:
        async with aclosing(pieces):
            yield first
            async for piece in pieces:
                yield piece

    return Stream(content(), media_type="application/octet-stream", headers=headers)


@delete("/v1/files/{file_id:str}", status_code=200, tags=_TAGS, opt=RUN)
async def delete_file(file_id: str, tenant: str, files: Files) -> Deleted:
    """Delete a file."""
    if not await files.delete(tenant, file_id):
        raise file_not_found(file_id)
    return Deleted(file_id, "file")


async def find_file(file_id: str, tenant: str, files: Files) -> StoredFile:
    """A tenant's file; raises `ApiError` 404."""
    stored = await files.get(tenant, file_id)
    if stored is None:
        raise file_not_found(file_id)
    return stored


def file_not_found(file_id: str) -> ApiError:
    """OpenAI's own answer to an id that is not one of the tenant's files."""
    return ApiError(404, f"No such File object: {file_id[:100]}", param="id", code="file_not_found")


def _checked_size(upload: Upload, purpose: str, settings: Settings) -> int:
    if upload.size is None:
        said = "Missing required parameter: 'file'."
        raise ApiError(400, said, param="file", code="missing_required_parameter")
    if upload.size == 0:
        raise ApiError(400, "The file is empty.", param="file", code="invalid_file")
    if purpose == "batch":
        if upload.size > settings.max_batch_bytes:
            raise too_large(settings.max_batch_bytes)
        if upload.beginning != b"{":
            said = "Invalid file format for Batch API: it must be JSONL, one request object on each line."
            raise ApiError(400, said, param="file", code="invalid_file_format")
    return upload.size
