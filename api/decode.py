"""Bytes into a request struct, and what is wrong with them into words for the client."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from api.errors import ApiError

_T = TypeVar("_T", bound=msgspec.Struct)
_PLACE = re.compile(r" - at `\$\.?(?P<param>[^`]*)`$")
_MOST_SAID = 300
_MISSING = re.compile(r"Object missing required field `(?P<name>[^`]+)`")


def decode_body(body: bytes, kind: type[_T], *, nested: Sequence[str] = ()) -> tuple[_T, list[str]]:
    """Decode a JSON object into `kind`; also gives the names of fields that `kind` does not have.

    Of the objects in the fields `nested`, unknown fields are named too: `outer.inner`.

    Raises `ApiError` 400 with `param` and `code` for anything that does not fit.
    """
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise ApiError(400, "The request body must be a JSON object.", code="invalid_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = f"The request body is not valid JSON: {error}"
        raise ApiError(400, said, code="invalid_json") from error
    try:
        request = msgspec.convert(fields, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _invalid(str(error)) from error
    unknown = fields.keys() - set(kind.__struct_encode_fields__)
    for name in nested:
        if (part := getattr(request, name)) is not None:
            unknown |= {f"{name}.{key}" for key in fields[name].keys() - set(part.__struct_encode_fields__)}
    return request, sorted(unknown)


def _invalid(said: str, where: str = "") -> ApiError:
    place = _PLACE.search(said)
    param = place["param"] if place else ""
    param = where + (param if param.startswith("[") or not (where and param) else f".{param}")
    missing = _MISSING.match(said)
    if missing:
        param = f"{param}.{missing['name']}" if param else missing["name"]
        return ApiError(
            400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )
    what = _PLACE.sub("", said).replace("`", "'")[:_MOST_SAID]
    code = "invalid_value" if what.startswith("Invalid value") else "invalid_type"
    return ApiError(400, f"Invalid '{param}': {what}.", param=param or None, code=code)


def converted(value: object, kind: Any, where: str) -> Any:
    """A part of a body as a `kind`; raises `ApiError` 400, whose `param` is the place below `where`."""
    try:
        return msgspec.convert(value, type=kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _invalid(str(error), where) from error
