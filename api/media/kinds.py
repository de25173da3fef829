"""What bytes are, by their own beginning; what a client or a server says of them is only held against it."""

from __future__ import annotations

import base64
import re
import unicodedata
from typing import Literal

from api.media.sources import MediaError
from shared.content import DocumentPart, ImagePart

_IMAGES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
_PDF: Literal["application/pdf"] = "application/pdf"
_PDF_START = re.compile(rb"(?:\xef\xbb\xbf)?\s{0,1024}%PDF-")
_ALIASES = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "application/x-pdf": _PDF}
_UNSPECIFIC = {"", "application/octet-stream", "binary/octet-stream"}
_TEXTUAL = re.compile(
    r"text/.+|.+\+(?:json|xml|yaml)"
    r"|application/(?:x-)?(?:json|jsonl|ndjson|xml|xhtml|javascript|ecmascript|typescript|yaml|toml|sql|sh|shellscript"
    r"|httpd-php|php|python|python-code|ruby|perl|tex|latex|csv|markdown|rtf|graphql)"
)
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MOST_TITLE = 200


def image_part(data: bytes, declared: str = "") -> ImagePart:
    """A PNG, JPEG, GIF or WebP image; raises `MediaError` for others, and for one declared as another."""
    kind = next((name for start, name in _IMAGES if start.match(data)), None)
    if kind is None:
        raise MediaError("It must be a PNG, JPEG, GIF or WebP image.")
    _require_declared(declared, kind)
    return ImagePart(media_type=kind, data=base64.b64encode(data).decode())


def document_part(data: bytes, name: str = "", declared: str = "") -> DocumentPart:
    """A PDF, or a text in UTF-8 of whatever kind, titled `name`; raises `MediaError` for anything else."""
    declared = _ALIASES.get(declared, declared)
    title = title_of(name)
    if _PDF_START.match(data) and declared in {*_UNSPECIFIC, _PDF}:
        return DocumentPart(_PDF, base64.b64encode(data).decode(), title)
    if declared == _PDF or title.lower().endswith(".pdf"):
        raise MediaError("It is said to be a PDF and is not.")
    if declared not in _UNSPECIFIC and not _TEXTUAL.fullmatch(declared):
        raise MediaError("It must be a PDF or a text file.")
    return DocumentPart("text/plain", _text(data), title)


def title_of(name: str) -> str:
    """The last part of a path or a name, in one line."""
    last = re.split(r"[/\\]", name.strip())[-1]
    return "".join(each for each in last if unicodedata.category(each)[0] != "C")[:_MOST_TITLE].strip()


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError("It must be a PDF, or a text in UTF-8.") from error
    if _NO_TEXT.search(text):
        raise MediaError("It must be a PDF, or a text in UTF-8.")
    if not text.strip():
        raise MediaError("It is empty.")
    return text


def _require_declared(declared: str, kind: str) -> None:
    declared = _ALIASES.get(declared, declared)
    if declared not in {*_UNSPECIFIC, kind}:
        raise MediaError(f"It is declared as another kind than it is: it is {kind}.")
