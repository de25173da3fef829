"""Cuts OpenAI's OpenAPI document down to what the suite validates with: `python -m tests.compat.reduce FILE`.

FILE is the document of https://github.com/openai/openai-openapi (MIT licence, © OpenAI) as JSON. What stays
are the paths below and every schema that they reach, without prose and examples. The document calls itself
OpenAPI 3.1 and still says `nullable`, which 3.1 does not know: that becomes a type of null.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REDUCED = Path(__file__).with_name("openai-openapi.json.gz")
_SERVED = re.compile(r"/(chat/completions|completions|models|conversations|responses)(/[^?]*)?")
_METHODS = {"get", "post", "delete"}
_PROSE = {"description", "example", "examples", "externalDocs", "summary", "tags", "title", "deprecated"}
_NAMES = {"properties", "schemas", "patternProperties", "responses", "parameters"}
"""Under these a key is a name that somebody chose, not a word of the format."""


def reduce(document: dict[str, Any]) -> dict[str, Any]:
    """Keep the served paths and what they reach."""
    paths = {
        path: {method: operation for method, operation in item.items() if method in _METHODS}
        for path, item in document["paths"].items()
        if _SERVED.fullmatch(path)
    }
    reduced: dict[str, Any] = {name: document[name] for name in ("openapi", "servers")}
    reduced["info"] = {name: document["info"][name] for name in ("title", "version", "license")}
    reduced |= {"paths": _without_prose(paths), "components": {}}
    waiting = [*_references(reduced["paths"]), "#/components/schemas/ErrorResponse"]
    while waiting:
        _, section, name = waiting.pop().removeprefix("#/").split("/")
        kept = reduced["components"].setdefault(section, {})
        if name not in kept:
            kept[name] = _without_prose(document["components"][section][name])
            waiting += _references(kept[name])
    _allow_null(reduced["components"]["schemas"])
    return reduced


def _allow_null(schemas: dict[str, Any]) -> None:
    """Let a response have no user and no usage (yet): so do all examples in the document itself."""
    schemas["ResponseUsage"] = {"anyOf": [schemas["ResponseUsage"], {"type": "null"}]}
    properties = schemas["ModelResponseProperties"]["properties"]
    properties["user"] = {"anyOf": [properties["user"], {"type": "null"}]}


def _references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for item in node:
            yield from _references(item)


def _without_prose(node: Any, *, is_names: bool = False) -> Any:
    if isinstance(node, list):
        return [_without_prose(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {
        key: _without_prose(value, is_names=key in _NAMES and not is_names)
        for key, value in node.items()
        if is_names or not (key in _PROSE or key.startswith("x-") or key == "discriminator")
    }
    if not is_names and kept.pop("nullable", False) is True:
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


def load() -> dict[str, Any]:
    """The reduced document."""
    document: dict[str, Any] = json.loads(gzip.decompress(REDUCED.read_bytes()))
    return document


def main(argv: list[str]) -> None:
    """Write the reduced document of the one given."""
    document = reduce(json.loads(Path(argv[0]).read_text("utf-8")))
    text = json.dumps(document, separators=(",", ":"), sort_keys=True)
    REDUCED.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
