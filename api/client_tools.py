"""Rules that a client's tools and schemas keep to, in whichever protocol they come. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from api.errors import ApiError
from shared.json_schema import fault_of
from shared.runs import ClientTool, ToolChoice

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MOST_TOOLS = 512


def require_name(name: str, param: str) -> None:
    """Raise `ApiError` 400 for what cannot be a tool's name."""
    if _NAME.fullmatch(name) is None:
        said = f"Invalid '{param}': use 1 to 64 letters, digits, '_' or '-'."
        raise ApiError(400, said, param=param, code="invalid_value")


def require_object(schema: dict[str, Any], param: str, said: str, code: str) -> None:
    """Raise `ApiError` 400, its message begun with `said`, unless this is a JSON Schema of an object."""
    if schema.get("type", "object") != "object":
        what = f"schema must be a JSON Schema of 'type: \"object\"', got 'type: {schema['type']!r}'"
        raise ApiError(400, f"{said}: {what}.", param=param, code=code)
    if fault := fault_of(schema):
        raise ApiError(400, f"{said}: {fault}.", param=param, code=code)


def root_of(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what the model's service wants at its root."""
    return {"type": "object", "properties": {}, **schema}


def require_distinct(tools: Sequence[ClientTool], param: str) -> None:
    """Raise `ApiError` 400 for too many tools, and for two of one name."""
    names = [tool.name for tool in tools]
    if len(names) > _MOST_TOOLS:
        said = f"'{param}' may have at most {_MOST_TOOLS} entries; this has {len(names)}."
        raise ApiError(400, said, param=param, code="array_above_max_length")
    for name in names:
        if names.count(name) > 1:
            raise ApiError(400, f"Two of '{param}' are called {name!r}.", param=param, code="invalid_value")


def among(tools: Sequence[ClientTool], choice: ToolChoice, param: str) -> ToolChoice:
    """The choice, if these tools allow it; raises `ApiError` 400."""
    if choice.mode == "named" and choice.name not in {tool.name for tool in tools}:
        said = f"'{param}' names {choice.name!r}, which is not among the tools."
        raise ApiError(400, said, param=param, code="invalid_value")
    if not tools and choice.mode in {"required", "named"}:
        raise ApiError(400, f"'{param}' needs 'tools' to choose from.", param=param, code="invalid_value")
    return choice if tools else ToolChoice()
