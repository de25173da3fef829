"""What the suite asks of every client: one script for each feature, and what must come of it."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

from pydantic import BaseModel

from scripted_model import Script, call, fail, say, script, text, tokens, use_tool

MODEL = "agent"
WORDS = "one two three four"
CITIES = ("Oslo", "Rome")
FINAL = "It is sunny in Oslo."


class Person(BaseModel):
    """What structured answers are."""

    name: str
    age: int


ADA = Person(name="Ada", age=36)

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": PARAMETERS},
}


REQUIRED = ("any", "tool")
"""How a required call may reach the model: of one function alone, its name says the same."""
NAMED = ("tool",)


def words() -> Script:
    return say(WORDS)


def endless() -> Script:
    """A minute of tokens."""
    return script(tokens(1200, pace_ms=50))


def broken() -> Script:
    """A word, then an error."""
    return script(text("so far "), fail(529))


def refused(status: int) -> Script:
    """The model's service answers with a status at once."""
    return script(fail(status))


def one_call() -> Script:
    """A call of the client's function, then a word on its result."""
    return script(call(use_tool("get_weather", {"city": CITIES[0]})), call(text(FINAL)))


def two_calls() -> Script:
    """Two calls at once, then a word."""
    return script(call(*(use_tool("get_weather", {"city": city}) for city in CITIES)), call(text(FINAL)))


def person() -> Script:
    """A structured answer, as the model gives it: JSON for text."""
    return say(ADA.model_dump_json())


def person_by_call(name: str = "Person") -> Script:
    """The same as the arguments of a forced call."""
    return script(call(use_tool(name, ADA.model_dump())), call(text("There is no such function.")))


def weather(city: str) -> str:
    """What the client's function gives."""
    return f"sunny in {city}"


def is_json(arguments: str) -> bool:
    return isinstance(json.loads(arguments), dict)


def png() -> bytes:
    """One red pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


PNG = base64.b64encode(png()).decode()
PNG_URL = f"data:image/png;base64,{PNG}"
