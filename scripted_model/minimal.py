"""The least value that a JSON Schema allows: what the canned reply says where an answer must have a form."""

from __future__ import annotations

from typing import Any

_DEEP, _MOST_DEEP = 4, 12
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT0S",
    "email": "demo@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_PLAIN: dict[str, Any] = {
    "null": None,
    "boolean": False,
    "integer": 0,
    "number": 0,
    "array": [],
    "object": {},
}
_TEXT = "canned"


def minimal(schema: object, root: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """A value for a schema of the part that the Messages API knows (`output_config.format`, API of 2026).

    Bounds that it does not know, of lengths and numbers, are not kept.
    """
    if not isinstance(schema, dict) or depth > _MOST_DEEP:
        return None
    root = schema if root is None else root
    if fixed := [schema["const"]] if "const" in schema else schema.get("enum"):
        return fixed[0]
    if isinstance(reference := schema.get("$ref"), str):
        return minimal(_at(reference, root), root, depth + 1)
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return minimal(_choice(choices, depth), root, depth + 1)
    if parts := schema.get("allOf"):
        return minimal(_merged(parts, root), root, depth + 1)
    return _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), _TEXT)
    if kind == "object":
        wanted, known = schema.get("required", ()), schema.get("properties", {})
        return {name: minimal(known.get(name), root, depth + 1) for name in wanted}
    if kind == "array" and schema.get("minItems"):
        return [minimal(schema.get("items"), root, depth + 1)]
    return _PLAIN.get(kind)


def _choice(choices: list[Any], depth: int) -> object:
    """The first; deep inside the first that leads no further, for a schema may hold itself."""
    if depth <= _DEEP:
        return choices[0]
    return next((each for each in choices if isinstance(each, dict) and "$ref" not in each), choices[0])


def _merged(parts: list[Any], root: dict[str, Any]) -> dict[str, Any]:
    """One schema for several that must all hold."""
    merged: dict[str, Any] = {"properties": {}, "required": []}
    for part in parts:
        found = _at(part["$ref"], root) if isinstance(part, dict) and "$ref" in part else part
        if isinstance(found, dict):
            merged["properties"] |= found.get("properties", {})
            merged["required"] += found.get("required", [])
            merged = {**found, **merged}
    return {name: value for name, value in merged.items() if value or name == "const"}


def _at(reference: str, root: dict[str, Any]) -> object:
    """What a reference within the schema (`#/$defs/Name`) names."""
    found: object = root
    for step in reference.removeprefix("#").split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found
