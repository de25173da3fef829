"""Lines are lines however the pieces come, and what is wrong with one is told by its number and place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.batches.input import MOST_LINES, RequestLine, lines_of, read_line, validate

URL = "/v1/chat/completions"
GOOD: dict[str, Any] = {"custom_id": "a", "method": "POST", "url": URL, "body": {"model": "m"}}


async def pieces_of(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def encoded(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (GOOD | changes).items() if value is not None}).encode()


@given(st.lists(st.binary(max_size=12)), st.integers(1, 7), st.integers(1, 10))
async def test_lines_do_not_depend_on_how_they_come(lines: list[bytes], size: int, most: int) -> None:
    content = b"\n".join(lines)
    expected = [
        (number, line if len(line) <= most else None)
        for number, line in enumerate(content.split(b"\n"), 1)
        if line.strip() or len(line) > most
    ]
    assert [each async for each in lines_of(pieces_of(content, size), most)] == expected


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"nonsense", "invalid_json_line", None),
        (b"[1]", "invalid_json_line", None),
        (b'{"custom_id": "a"', "invalid_json_line", None),
        (b"\xff\xfe{}", "invalid_json_line", None),
        (b"[" * 100_000, "invalid_json_line", None),
        (None, "line_too_long", None),
        (encoded(custom_id=None), "missing_required_parameter", "custom_id"),
        (encoded(method=None), "missing_required_parameter", "method"),
        (encoded(url=None), "missing_required_parameter", "url"),
        (encoded(body=None), "missing_required_parameter", "body"),
        (encoded(custom_id=7), "invalid_type", None),
        (encoded(body=[]), "invalid_type", None),
        (encoded(method="GET"), "invalid_method", "method"),
        (encoded(url="/v1/responses"), "invalid_url", "url"),
        (encoded(body={"stream": True}), "streaming_unsupported", "body.stream"),
    ],
)
def test_what_is_wrong_with_a_line_is_told(line: bytes | None, code: str, param: str | None) -> None:
    found = read_line(line, 7, URL)
    assert not isinstance(found, RequestLine)
    assert (found.code, found.param, found.line) == (code, param, 7)
    assert found.message


def test_a_line_that_will_do_keeps_its_body_as_it_is() -> None:
    line = b'{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": {"a":  1.50}}'
    found = read_line(b"\xef\xbb\xbf" + line, 1, URL)
    assert isinstance(found, RequestLine)
    assert (found.custom_id, bytes(found.body)) == ("x", b'{"a":  1.50}')


async def checked(content: bytes) -> list[tuple[str, int | None]]:
    found = await validate(pieces_of(content, 1000), URL, 10_000)
    return [(each.code, each.line) for each in found.problems]


async def test_a_whole_input_is_counted_and_its_model_known() -> None:
    content = encoded() + b"\n\n" + encoded(custom_id="b") + b"\r\n"
    found = await validate(pieces_of(content, 1000), URL, 10_000)
    assert (found.total, found.model, found.problems) == (2, "m", [])
    mixed = content + encoded(custom_id="c", body={"model": "other"})
    assert (await validate(pieces_of(mixed, 1000), URL, 10_000)).model == ""


async def test_what_is_wrong_with_the_whole_is_told() -> None:
    assert await checked(b"\n \n") == [("empty_file", None)]
    assert await checked(encoded() + b"\n\n" + encoded()) == [("duplicate_custom_id", 3)]
    assert len(await checked(b"x\n" * 500)) == 100
    many = b"".join(encoded(custom_id=str(number)) + b"\n" for number in range(MOST_LINES + 5))
    assert await checked(many) == [("too_many_lines", MOST_LINES + 1)]
