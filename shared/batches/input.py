"""A batch's input: lines out of pieces, requests out of lines, and all that can be wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec

from shared.batches.records import Problem

MOST_LINES = 50_000
_MOST_PROBLEMS = 100
_FIELDS = ("custom_id", "method", "url", "body")


class RequestLine(msgspec.Struct, frozen=True):
    """A line that can be executed; `body` is a JSON object."""

    custom_id: str
    body: msgspec.Raw
    model: str = ""


class Validated(msgspec.Struct, frozen=True):
    """What a look at the whole input gave: its requests and their one model, or what is wrong with it."""

    total: int
    model: str
    problems: list[Problem]


class _Body(msgspec.Struct, frozen=True):
    stream: Any = None
    model: Any = None


async def lines_of(pieces: AsyncIterable[bytes], most_bytes: int) -> AsyncIterator[tuple[int, bytes | None]]:
    """The lines that are not blank, with their numbers from 1; `None` for one of more than `most_bytes`."""
    number, rest, is_skipping = 1, bytearray(), False
    async for piece in pieces:
        *whole, last = piece.split(b"\n")
        for end in whole:
            rest += end
            if is_skipping or len(rest) > most_bytes:
                yield number, None
            elif rest.strip():
                yield number, bytes(rest)
            number, is_skipping = number + 1, False
            rest.clear()
        rest += last
        if len(rest) > most_bytes:
            is_skipping = True
            rest.clear()
    if is_skipping:
        yield number, None
    elif rest.strip():
        yield number, bytes(rest)


def read_line(line: bytes | None, number: int, endpoint: str) -> RequestLine | Problem:
    """The request on a line, or what is wrong with it."""
    if line is None:
        return Problem("line_too_long", "This line is longer than a request may be.", None, number)
    try:
        fields = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf"), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = "This line is not parseable as a valid JSON object."
        return Problem("invalid_json_line", said, None, number)
    missing = next((name for name in _FIELDS if name not in fields), None)
    if missing is not None:
        said = f"Missing required parameter: '{missing}'."
        return Problem("missing_required_parameter", said, missing, number)
    return _read_fields(fields, number, endpoint)


def _read_fields(fields: dict[str, msgspec.Raw], number: int, endpoint: str) -> RequestLine | Problem:
    try:
        custom_id, method, url = (msgspec.json.decode(fields[name], type=str) for name in _FIELDS[:3])
        body = msgspec.json.decode(fields["body"], type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = "'custom_id', 'method' and 'url' must be texts, and 'body' an object."
        return Problem("invalid_type", said, None, number)
    if method != "POST":
        return Problem("invalid_method", "'method' must be 'POST'.", "method", number)
    if url != endpoint:
        said = f"The URL provided for this request does not match the batch's endpoint, '{endpoint}'."
        return Problem("invalid_url", said, "url", number)
    if body.stream:
        said = "Streaming is not supported in the Batch API."
        return Problem("streaming_unsupported", said, "body.stream", number)
    model = body.model if isinstance(body.model, str) else ""
    return RequestLine(custom_id, fields["body"], model)


async def validate(pieces: AsyncIterable[bytes], endpoint: str, most_bytes: int) -> Validated:
    """Look at every line; at most a hundred problems are told, and memory does not grow with the lines."""
    problems: list[Problem] = []
    seen: set[bytes] = set()
    models: set[str] = set()
    total = 0
    async for number, line in lines_of(pieces, most_bytes):
        total += 1
        found = read_line(line, number, endpoint)
        if isinstance(found, RequestLine):
            if len(models) < 2:
                models.add(found.model)
            digest = hashlib.blake2b(
                found.custom_id.encode("utf-8", "surrogatepass"), digest_size=16
            ).digest()
            if digest in seen:
                said = "This 'custom_id' stands on an earlier line too."
                found = Problem("duplicate_custom_id", said, "custom_id", number)
            seen.add(digest)
        if isinstance(found, Problem):
            problems.append(found)
        if total > MOST_LINES:
            problems.append(
                Problem("too_many_lines", f"A batch may have {MOST_LINES} requests.", None, number)
            )
        if total > MOST_LINES or len(problems) >= _MOST_PROBLEMS:
            break
    if not total:
        problems.append(Problem("empty_file", "The input file is empty."))
    return Validated(total, models.pop() if len(models) == 1 else "", problems)
