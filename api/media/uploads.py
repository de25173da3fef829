"""Files that were uploaded before, as images and documents of a request."""

from __future__ import annotations

from api.media.sources import MediaError
from shared.blobs import BlobGoneError
from shared.files import Files

_PURPOSES = ("user_data", "assistants", "vision")
"""What a message may name; what batches read and write is for batches."""


async def read_upload(files: Files | None, tenant: str, file_id: str, limit: int) -> tuple[str, bytes]:
    """The name and the bytes of a tenant's file of at most `limit` bytes; raises `MediaError`."""
    stored = await files.get(tenant, file_id) if files is not None else None
    if files is None or stored is None:
        raise MediaError("There is no such file.")
    if stored.value.purpose not in _PURPOSES:
        raise MediaError(f"Its purpose must be one of {', '.join(_PURPOSES)}.")
    if stored.value.size > limit:
        raise MediaError(f"It is larger than {limit} bytes.")
    try:
        return stored.value.filename, b"".join([piece async for piece in files.read(tenant, file_id)])
    except BlobGoneError as error:
        raise MediaError("There is no such file.") from error
