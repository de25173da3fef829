"""What a client writes of an image or a file is read exactly, and bytes are what they are declared to be."""

from __future__ import annotations

import base64
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.media.kinds import document_part, image_part, title_of
from api.media.sources import Inline, Local, MediaError, Remote, Source, source_of_data, source_of_url
from shared.content import DocumentPart, ImagePart
from tests.support.media import PDF, b64, data_url, png

JPEG = b"\xff\xd8\xff\xe0rest"
GIF = b"GIF89arest"
WEBP = b"RIFF\x0a\x00\x00\x00WEBPrest"
MEDIA_TYPES = st.from_regex(r"[a-zA-Z]{1,9}/[a-zA-Z.+-]{1,12}", fullmatch=True)


@given(st.binary(), MEDIA_TYPES, st.sampled_from(["", ";charset=utf-8", ";name=a b.pdf;x=y"]))
def test_any_bytes_go_through_a_data_url(data: bytes, kind: str, parameters: str) -> None:
    expected = Inline(data, kind.lower())
    assert source_of_url(f"data:{kind}{parameters};base64,{b64(data)}") == expected
    assert source_of_data(f"DATA:{kind}{parameters};BASE64,{base64.encodebytes(data).decode()}") == expected


@given(st.binary())
def test_plain_base64_is_read_where_it_may_stand(data: bytes) -> None:
    assert source_of_data(b64(data)) == Inline(data)


@given(st.text() | st.text().map("data:".__add__) | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_a_source_or_refused(text: str) -> None:
    for read in (source_of_url, source_of_data):
        try:
            source = read(text)
        except MediaError as error:
            assert str(error)  # noqa: PT017 - most texts are refused, and not all
        else:
            assert isinstance(source, Inline | Remote | Local)


@given(st.binary(min_size=1), st.integers(0, 10_000), st.sampled_from("!-_*é\x00="))
def test_one_wrong_character_breaks_base64(data: bytes, at: int, wrong: str) -> None:
    text = b64(data)
    at %= len(text.rstrip("=")) - 1 or 1
    with pytest.raises(MediaError):
        source_of_url(f"data:image/png;base64,{text[:at]}{wrong}{text[at:]}")


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("https://a.example/b.png", Remote("https://a.example/b.png")),
        ("HTTP://a.example", Remote("HTTP://a.example")),
        ("/a/b c.png", Local("/a/b c.png")),
        ("file:///a/b%20c.png", Local("/a/b c.png")),
        ("file://localhost/a", Local("/a")),
        ("file:///a%2f..%2fb", Local("/a/../b")),
    ],
)
def test_urls_and_paths(url: str, source: Source) -> None:
    assert source_of_url(url) == source


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.png",
        "./a.png",
        "~/a.png",
        "ftp://a.example/b.png",
        "gopher://a.example",
        "javascript:alert(1)",
        "file://host/a.png",
        "file:a.png",
        "file://[/a",
        "data:image/png,plain",
        "data:image/png;base64",
        "data:image/png;base64,aGk",
        "data:image/png;base64,aGk=aGk=",
        " data:image/png;base64,aGk=",
    ],
)
def test_what_names_no_source_is_refused(url: str) -> None:
    with pytest.raises(MediaError):
        source_of_url(url)


@pytest.mark.parametrize(
    ("data", "kind"),
    [(png(), "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")],
)
def test_an_image_is_known_by_its_beginning(data: bytes, kind: str) -> None:
    assert image_part(data) == image_part(data, kind) == ImagePart(kind, b64(data))
    assert image_part(data, "application/octet-stream").media_type == kind


def test_an_alias_of_jpeg_is_jpeg() -> None:
    assert image_part(JPEG, "image/jpg").media_type == "image/jpeg"


@pytest.mark.parametrize(
    ("make", "data", "declared"),
    [
        (image_part, b"", ""),
        (image_part, b"hi", "image/png"),
        (image_part, PDF, ""),
        (image_part, b"<svg/>", "image/svg+xml"),
        (image_part, b"RIFF\x0a\x00\x00\x00WAVErest", ""),
        (image_part, b" " + png(), ""),
        (image_part, JPEG, "image/png"),
        (image_part, png(), "application/pdf"),
        (lambda data, declared: document_part(data, "", declared), png(), ""),
        (lambda data, declared: document_part(data, "", declared), png(), "image/png"),
        (lambda data, declared: document_part(data, "", declared), b"plain", "application/pdf"),
        (lambda data, declared: document_part(data, "a.PDF", declared), b"plain", "text/plain"),
        (lambda data, declared: document_part(data, "", declared), b"plain", "application/zip"),
        (lambda data, declared: document_part(data, "", declared), b"plain", "audio/wav"),
        (lambda data, declared: document_part(data, "", declared), PDF + b"\xff", "text/plain"),
        (lambda data, declared: document_part(data, "", declared), b"\xe9t\xe9", "text/plain"),
        (lambda data, declared: document_part(data, "", declared), b"a\x00b", "text/plain"),
        (lambda data, declared: document_part(data, "", declared), "text".encode("utf-16"), "text/plain"),
        (lambda data, declared: document_part(data, "", declared), b" \n", "text/plain"),
        (lambda data, declared: document_part(data, "", declared), b"", ""),
    ],
)
def test_bytes_that_are_something_else_are_refused(
    make: Callable[[bytes, str], object], data: bytes, declared: str
) -> None:
    with pytest.raises(MediaError):
        make(data, declared)


@pytest.mark.parametrize("declared", ["", "application/pdf", "application/x-pdf", "application/octet-stream"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\r\n \n"])
def test_a_pdf_is_known_by_its_header(before: bytes, declared: str) -> None:
    part = document_part(before + PDF, "dir/a.pdf", declared)
    assert part == DocumentPart("application/pdf", b64(before + PDF), "a.pdf")


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("a.txt", "text/plain"),
        ("a.md", "text/markdown"),
        ("a.csv", ""),
        ("a.json", "application/json"),
        ("a.xml", "application/xml"),
        ("a.html", "text/html"),
        ("a.svg", "application/atom+xml"),
        ("a.py", "text/x-python"),
        ("a.rs", "application/octet-stream"),
        ("a.sh", "application/x-sh"),
        ("Makefile", ""),
        ("", ""),
    ],
)
def test_text_of_any_kind_is_a_text_document(name: str, declared: str) -> None:
    said = "Straße\t☕\r\nsays %PDF-1.4\n"
    assert document_part(said.encode(), name, declared) == DocumentPart("text/plain", said, name)
    assert document_part(b"\xef\xbb\xbf" + said.encode()).data == said


@given(st.text())
def test_a_title_is_one_short_line_without_directories(name: str) -> None:
    title = title_of(name)
    assert len(title) <= 200
    assert title == title.strip()
    assert not set(title) & set("/\\\n\r\t\x00\u202e")


def test_a_documents_url_round_trips() -> None:
    source = source_of_data(data_url(PDF, "application/pdf"))
    assert source == Inline(PDF, "application/pdf")
