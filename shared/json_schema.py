"""JSON Schemas (2020-12) that come from clients: whether they are ones, and whether a value fits.

They are strangers' input: nothing is fetched for a `$ref`, regular expressions are not run and properties
that nothing evaluates are not looked for (either can be written so that it never ends), and a check that
takes too long is given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from referencing import Registry

_LIMIT_S = 1.0
_MOST_SAID = 500
_NOT_RUN = ("pattern", "patternProperties", "unevaluatedItems", "unevaluatedProperties")
_NOTHING: Registry[Any] = Registry()

Rule = Callable[[Any, Any, Any, dict[str, Any]], Iterator[ValidationError] | None]


class _TooSlowError(Exception):
    """The check has taken as long as it may."""


def fault_of(schema: dict[str, Any]) -> str:
    """What is wrong with a schema, in words for its author; empty when nothing is."""
    try:
        jsonschema_rs.meta.validate(schema)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"[{step!r}]" for step in error.instance_path)
        return f"{where}: {error.message}".lstrip(": ")[:_MOST_SAID]
    except Exception as error:  # noqa: BLE001 - a stranger's schema: a draft that is none, a number too large
        return f"it cannot be read ({type(error).__name__})"
    return ""


def mismatch(value: object, schema: dict[str, Any]) -> str:
    """Why `schema` does not allow `value`, in words; empty when it does."""
    give_up_at = time.monotonic() + _LIMIT_S
    rules = {
        name: _bounded(rule, give_up_at)
        for name, rule in Draft202012Validator.VALIDATORS.items()
        if name not in _NOT_RUN
    }
    rules |= dict.fromkeys(_NOT_RUN, _anything)
    validator: Any = extend(Draft202012Validator, rules)  # type: ignore[no-untyped-call]
    try:
        validator(schema, registry=_NOTHING).validate(value)
    except ValidationError as error:
        return f"{error.json_path}: {error.message}"[:_MOST_SAID]
    except Exception as error:  # noqa: BLE001 - a stranger's schema: a `$ref` into what is none, and more
        return f"the schema cannot be applied ({type(error).__name__}): {error}"[:_MOST_SAID]
    return ""


def _bounded(rule: Rule, give_up_at: float) -> Rule:
    def run(validator: Any, value: Any, instance: Any, schema: dict[str, Any]) -> Iterator[ValidationError]:
        if time.monotonic() > give_up_at:
            raise _TooSlowError(f"more than {_LIMIT_S:g} s")
        yield from rule(validator, value, instance, schema) or ()

    return run


def _anything(*_: object) -> None:
    """Allow whatever it is."""
