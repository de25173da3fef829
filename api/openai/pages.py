"""Lists in OpenAI's shape, the query parameters that page them, and metadata's bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from litestar.params import Parameter

from api.errors import ApiError

T = TypeVar("T")

Limit = Annotated[int, Parameter(ge=1, le=100, description="The most objects to give.")]
After = Annotated[
    str, Parameter(max_length=100, description="The id of the object before the first to give.")
]
Sorted = Annotated[Literal["asc", "desc"], Parameter(description="Newest first (`desc`) or last.")]
Include = Annotated[
    list[str] | None,
    Parameter(description="`tools`: also the tools that the agent used. Others have no effect."),
]

_MOST_PAIRS = 16
_LONGEST_KEY = 64
_LONGEST_VALUE = 512


class ObjectList(msgspec.Struct, Generic[T], frozen=True):
    """A page; `first_id` and `last_id` are empty when it is."""

    data: list[T]
    has_more: bool
    first_id: str
    last_id: str
    object: Literal["list"] = "list"


class Deleted(msgspec.Struct, frozen=True):
    """The answer to a DELETE."""

    id: str
    object: str
    deleted: bool = True


def page_of(data: list[T], ids: list[str], *, has_more: bool) -> ObjectList[T]:
    """A page of `data`, whose ids are `ids`."""
    return ObjectList(data, has_more, ids[0] if ids else "", ids[-1] if ids else "")


def checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Metadata within OpenAI's bounds; raises `ApiError` 400."""
    pairs = dict(metadata or {})
    if len(pairs) > _MOST_PAIRS:
        raise _too_much(f"may have at most {_MOST_PAIRS} pairs")
    if any(len(key) > _LONGEST_KEY for key in pairs):
        raise _too_much(f"may have keys of at most {_LONGEST_KEY} characters")
    if any(len(value) > _LONGEST_VALUE for value in pairs.values()):
        raise _too_much(f"may have values of at most {_LONGEST_VALUE} characters")
    return pairs


def _too_much(said: str) -> ApiError:
    return ApiError(400, f"'metadata' {said}.", param="metadata", code="invalid_value")
