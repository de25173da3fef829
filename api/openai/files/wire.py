"""Files in OpenAI's shape, and the form's fields out of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from api.errors import ApiError
from shared.files import StoredFile

PURPOSES = ("batch", "user_data", "assistants", "vision")
_SHORTEST_S, _LONGEST_S = 3600, 2_592_000


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file as OpenAI shows it; `status` is as old as the API and says nothing."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None


def file_object(stored: StoredFile) -> FileObject:
    """A file's record in OpenAI's shape."""
    created_at = stored.created_ms // 1000
    return FileObject(
        id=stored.id,
        bytes=stored.value.size,
        created_at=created_at,
        expires_at=created_at + int(stored.value.ttl_s),
        filename=stored.value.filename,
        purpose=stored.value.purpose,
    )


def purpose_of(fields: Mapping[str, str]) -> str:
    """The form's purpose; raises `ApiError` 400 for one that no part of this server has a use for."""
    purpose = fields.get("purpose")
    if purpose is None:
        said = "Missing required parameter: 'purpose'."
        raise ApiError(400, said, param="purpose", code="missing_required_parameter")
    if purpose not in PURPOSES:
        said = f"'{purpose[:100]}' is not one of {', '.join(repr(each) for each in PURPOSES)} - 'purpose'"
        raise ApiError(400, said, param="purpose", code="invalid_value")
    return purpose


def expiry_of(fields: Mapping[str, str]) -> float | None:
    """The seconds after which the file shall go; `None` when the form does not say."""
    anchor, seconds = fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    return checked_expiry(anchor, int(seconds) if seconds and seconds.isdecimal() else None, "expires_after")


def checked_expiry(anchor: str | None, seconds: int | None, param: str) -> float:
    """A client's `expires_after` within OpenAI's bounds; raises `ApiError` 400."""
    if anchor != "created_at":
        said = f"'{param}.anchor' must be 'created_at'."
        raise ApiError(400, said, param=f"{param}.anchor", code="invalid_value")
    if seconds is None or not _SHORTEST_S <= seconds <= _LONGEST_S:
        said = f"'{param}.seconds' must be from {_SHORTEST_S} to {_LONGEST_S}."
        raise ApiError(400, said, param=f"{param}.seconds", code="invalid_value")
    return float(seconds)
