"""A client's JSON Schema as the Messages API takes one for its answer.

It knows a part of JSON Schema (`output_config.format`, API of 2026): what it would refuse is told to the
model in a description instead. The answer is checked against the client's own schema afterwards.
"""

from __future__ import annotations

from typing import Any

import msgspec

_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
_KEPT = frozenset({"type", "enum", "const", "title", "description", "default", "required", "$ref"})
_INSIDE = {
    "items": dict,
    "properties": dict,
    "$defs": dict,
    "definitions": dict,
    "anyOf": list,
    "allOf": list,
    "oneOf": list,
}
_WORDS = {"oneOf": "anyOf"}
_SILENT = frozenset({"additionalProperties", "$schema", "$id", "$comment", "examples", "strict"})


def for_model(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema to send: objects are closed, and what the API does not know stands in descriptions."""
    sent: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name, value in schema.items():
        if _is_known(name, value):
            sent[_WORDS.get(name, name)] = _inside(name, value)
        elif name not in _SILENT:
            told[name] = value
    if sent.get("type") == "object" or "properties" in sent:
        sent["additionalProperties"] = False
    if told:
        rules = ", ".join(f"{name}: {msgspec.json.encode(value).decode()}" for name, value in told.items())
        sent["description"] = " ".join(filter(None, [str(sent.get("description", "")), f"({rules})"]))
    return sent


def _is_known(name: str, value: object) -> bool:
    if name == "format":
        return value in _FORMATS
    if name == "minItems":
        return value in {0, 1}
    return name in _KEPT | _INSIDE.keys() and isinstance(value, _INSIDE.get(name, object))


def _inside(name: str, value: object) -> object:
    """The same for the schemas within."""
    if name == "items" and isinstance(value, dict):
        return for_model(value)
    if _INSIDE.get(name) is dict and isinstance(value, dict):
        return {key: for_model(one) if isinstance(one, dict) else one for key, one in value.items()}
    if _INSIDE.get(name) is list and isinstance(value, list):
        return [for_model(one) if isinstance(one, dict) else one for one in value]
    return value
