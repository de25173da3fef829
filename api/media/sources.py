"""Where the bytes of an image or a file are, read from what a client wrote: pure, no I/O."""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote, urlsplit

import msgspec

_DATA_URL = re.compile(
    r"data:(?P<type>[^,;]*)(?P<parameters>(?:;[^,;]*)*?)(?P<base64>;base64)?,", re.IGNORECASE
)
_WHITE_SPACE = re.compile(r"[\t\n\f\r ]")


class MediaError(Exception):
    """An image or a file cannot be had; the message is one sentence about it, for the client."""


class Inline(msgspec.Struct, frozen=True):
    """Bytes in the request itself; `declared` is the media type they are said to have, or empty."""

    data: bytes
    declared: str = ""


class Remote(msgspec.Struct, frozen=True):
    """An `http` or `https` URL."""

    url: str


class Local(msgspec.Struct, frozen=True):
    """An absolute path on the API's host."""

    path: str


class Uploaded(msgspec.Struct, frozen=True):
    """A file that the tenant has uploaded."""

    tenant: str
    file_id: str


Source = Inline | Remote | Local | Uploaded


def source_of_url(url: str) -> Source:
    """The source that a URL, or an absolute path, names; raises `MediaError` for any other."""
    scheme = url[:8].partition(":")[0].lower()
    if scheme == "data":
        return _inline(url)
    if scheme in {"http", "https"}:
        return Remote(url)
    if scheme == "file":
        return Local(_path(url))
    if url.startswith("/"):
        return Local(url)
    raise MediaError("It must be a data URL, an http or https URL, or an absolute path.")


def source_of_data(data: str) -> Source:
    """The same for a field that may also hold plain base64, which a path would look like."""
    scheme, colon, _ = data[:8].partition(":")
    if colon and scheme.lower() in {"data", "http", "https", "file"}:
        return source_of_url(data)
    return Inline(decode_base64(data))


def decode_base64(text: str) -> bytes:
    """Standard base64, broken into lines or not; raises `MediaError`."""
    try:
        if _WHITE_SPACE.search(text):
            text = _WHITE_SPACE.sub("", text)
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:  # binascii's own, and text beyond ASCII
        raise MediaError("It is not valid base64.") from error


def _inline(url: str) -> Inline:
    match = _DATA_URL.match(url)
    if match is None or match["base64"] is None:
        raise MediaError("A data URL must be like data:image/png;base64,….")
    return Inline(decode_base64(url[match.end() :]), match["type"].strip().lower())


def _path(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise MediaError("It is not a URL.") from error
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/"):
        raise MediaError("A file URL must be like file:///path.")
    return path
