"""An upload as it comes over the wire: fields are kept, the file goes straight on to its storage."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from api.errors import ApiError

_MOST_FIELDS = 16
_MOST_FIELD_BYTES = 4096
_MOST_NAME = 255


class _Part(msgspec.Struct, frozen=True):
    """Where a part of the form begins; its bytes follow, and `None` at its end."""

    name: str
    filename: str | None


Event = _Part | bytes | None
Keep = Callable[[AsyncIterator[bytes]], Awaitable[int]]


class Upload(msgspec.Struct, frozen=True):
    """What a form held: its file (`size` is `None` when there was none), and its other fields.

    `beginning` is the first byte that is not white space.
    """

    filename: str
    size: int | None
    beginning: bytes
    digest: str
    fields: dict[str, str]


class _Passing:
    """What is seen of a file on its way to the storage."""

    def __init__(self) -> None:
        self.beginning = b""
        self.digest = hashlib.sha256()

    async def watch(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in pieces:
            self.beginning = self.beginning or piece.lstrip()[:1]
            self.digest.update(piece)
            yield piece


async def receive(request: Request[Any, Any, Any], keep: Keep, *, most_bytes: int) -> Upload:
    """Read a `multipart/form-data` body; the part `file` is given to `keep` piece by piece.

    Raises `ApiError`: 400 for a body that is none, 413 for a file beyond `most_bytes`.
    """
    events = _events(request, most_bytes)
    filename, size, passing = "", None, _Passing()
    fields: dict[str, str] = {}
    try:
        async for event in events:
            if not isinstance(event, _Part):
                continue
            if event.name != "file":
                fields[event.name] = await _text(event.name, events)
            elif size is None:
                filename = _name(event.filename)
                size = await keep(passing.watch(_body(events, most_bytes)))
            else:
                raise ApiError(400, "Only one file can be uploaded at a time.", param="file")
    except MultipartError as error:
        raise ApiError(400, f"The form cannot be read: {error}", code="invalid_multipart") from error
    finally:
        await events.aclose()
    return Upload(filename, size, passing.beginning, passing.digest.hexdigest(), fields)


async def _events(request: Request[Any, Any, Any], most_bytes: int) -> AsyncGenerator[Event, None]:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get("boundary")
    if kind != "multipart/form-data" or not boundary:
        said = "The body must be multipart/form-data with a 'file' and a 'purpose'."
        raise ApiError(400, said, code="invalid_content_type")
    left = most_bytes + _MOST_FIELDS * 2 * _MOST_FIELD_BYTES
    with PushMultipartParser(boundary, max_segment_count=_MOST_FIELDS) as parser:
        async for piece in request.stream():
            left -= len(piece)
            if left < 0:
                raise too_large(most_bytes)
            if not parser.closed:
                for event in parser.parse(piece):
                    yield _event(event)


def _event(event: object) -> Event:
    if isinstance(event, MultipartSegment):
        return _Part(event.name, event.filename)
    return bytes(event) if isinstance(event, bytes | bytearray) else None


async def _body(events: AsyncGenerator[Event, None], most_bytes: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for event in events:
        if not isinstance(event, bytes):
            return
        size += len(event)
        if size > most_bytes:
            raise too_large(most_bytes)
        yield event


async def _text(name: str, events: AsyncGenerator[Event, None]) -> str:
    value = b""
    async for event in events:
        if not isinstance(event, bytes):
            break
        value += event
        if len(value) > _MOST_FIELD_BYTES:
            raise ApiError(400, f"The field '{name[:100]}' is too long.", param=name[:100])
    return value.decode("utf-8", "replace")


def _name(given: str | None) -> str:
    """The last part of what the client calls its file, in one line."""
    last = (given or "").replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in last if each.isprintable())[:_MOST_NAME] or "upload"


def too_large(most_bytes: int) -> ApiError:
    """The answer to a file that is larger than it may be."""
    said = f"The file is too large: it may have {most_bytes} bytes."
    return ApiError(413, said, param="file", code="file_too_large", is_retryable=False)
