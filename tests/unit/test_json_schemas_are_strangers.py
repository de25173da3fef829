"""A client's JSON Schema may be anything: it is refused or applied, and never hangs or breaks the server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.json_schema import fault_of, mismatch

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
WORDS = [
    "type",
    "properties",
    "$ref",
    "anyOf",
    "items",
    "multipleOf",
    "pattern",
    "minimum",
    "required",
    "$defs",
]
SCHEMAS = st.dictionaries(st.sampled_from(WORDS), JSON, max_size=5)


@given(SCHEMAS, JSON)
def test_any_schema_gives_words_or_none(schema: dict[str, Any], value: Any) -> None:
    assert isinstance(fault_of(schema), str)
    assert isinstance(mismatch(value, schema), str)


def deep(depth: int) -> dict[str, Any]:
    inside = {
        f"d{n}": {
            "if": True,
            "then": {"$ref": f"#/$defs/d{n + 1}"},
            "dependentSchemas": {"a": {"$ref": f"#/$defs/d{n + 1}"}},
        }
        for n in range(depth)
    }
    return {
        "type": "object",
        "unevaluatedProperties": False,
        "properties": {"a": {}},
        "dependentSchemas": {"a": {"$ref": "#/$defs/d0"}},
        "$defs": {**inside, f"d{depth}": {}},
    }


@pytest.mark.parametrize(
    "schema",
    [
        deep(60),
        {"properties": {"a": {"pattern": "(a+)+$"}}},
        {"$ref": "http://127.0.0.1:1/x"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"properties": {"a": {"$ref": "#/x"}}, "x": {"multipleOf": 0}},
        {"properties": {"a": {"$ref": "#/x"}}, "x": {"type": "bogus"}},
        {"properties": {"a": {"$ref": "#/title"}}, "title": "t"},
    ],
)
def test_no_schema_hangs_or_breaks_the_check(schema: dict[str, Any]) -> None:
    assert isinstance(mismatch({"a": "a" * 40 + "!"}, schema), str)


@pytest.mark.parametrize("pattern", ["a{99999999999999999999}", "(", "(?i)" + "[\\u1000-\U0010ffff]" * 300])
def test_a_pattern_is_not_compiled(pattern: str) -> None:
    assert isinstance(fault_of({"properties": {"a": {"pattern": pattern}}}), str)


def test_what_is_wrong_is_named() -> None:
    assert "bogus" in fault_of({"properties": {"a": {"type": "bogus"}}})
    assert mismatch({"a": 1}, {"properties": {"a": {"type": "string"}}}) == "$.a: 1 is not of type 'string'"
