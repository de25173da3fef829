"""What a request's images and files may be, each and together, and what is refused is named by its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.errors import ApiError
from api.media.fetch import Fetcher
from api.media.load import Media, MediaRefusedError, Wanted, WantedDocument, WantedImage
from api.media.sources import Inline, Local, Remote
from api.openai.media import load_media
from api.openai.wire import (
    AssistantMessage,
    FileContent,
    FileSource,
    ImageContent,
    ImageUrl,
    Message,
    TextContent,
    UserMessage,
)
from shared.content import DocumentPart, ImagePart, Part, Turn
from shared.prefix import prefix_of
from shared.runs import RunRequest
from shared.settings import Settings
from tests.support.media import PDF, answer, b64, data_url, png, web_server


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(with_private=True)
    yield fetcher
    await fetcher.aclose()


IMAGE = WantedImage(Inline(png(), "image/png"))
TEXT = WantedDocument(Inline(b"x" * 50))


@pytest.mark.parametrize(
    ("settings", "wanted", "place", "said"),
    [
        (Settings(max_image_bytes=10), {"a": TEXT, "b": IMAGE}, "b", "larger than 10 bytes"),
        (Settings(max_file_bytes=10), {"a": IMAGE, "b": TEXT}, "b", "larger than 10 bytes"),
        (Settings(max_media_bytes=120), {"a": TEXT, "b": TEXT, "c": TEXT}, "c", "120 bytes together"),
        (Settings(max_media_parts=2), {"a": TEXT, "b": IMAGE, "c": TEXT}, "c", "at most 2"),
    ],
)
async def test_each_bound_holds(
    fetcher: Fetcher, settings: Settings, wanted: dict[str, Wanted], place: str, said: str
) -> None:
    with pytest.raises(MediaRefusedError, match=said) as refused:
        await Media(fetcher, settings).load(wanted)
    assert refused.value.place == place


async def test_what_is_within_the_bounds_comes_in_its_place(fetcher: Fetcher, tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(PDF)
    settings = Settings(max_media_parts=3, media_roots=(tmp_path,))
    async with web_server(lambda _: answer(b"# Title")) as url:
        wanted: dict[str, Wanted] = {
            "a": IMAGE,
            "b": WantedDocument(Local(f"{tmp_path}/a.pdf")),
            "c": WantedDocument(Remote(f"{url}/dir/b%20c.md?d"), "named"),
        }
        parts = await Media(fetcher, settings).load(wanted)
    assert parts == {
        "a": ImagePart("image/png", b64(png())),
        "b": DocumentPart("application/pdf", b64(PDF), "a.pdf"),
        "c": DocumentPart("text/plain", "# Title", "named"),
    }


def image(url: str) -> ImageContent:
    return ImageContent(ImageUrl(url))


async def refused(fetcher: Fetcher, part: ImageContent | FileContent) -> tuple[str | None, str | None]:
    messages: list[Message] = [AssistantMessage("x"), UserMessage([TextContent("y"), part])]
    with pytest.raises(ApiError) as refusal:
        await load_media(messages, Media(fetcher, Settings()))
    assert refusal.value.status == 400
    return refusal.value.param, refusal.value.code


@pytest.mark.parametrize(
    "url",
    [
        "x.png",
        "data:image/png;base64,!",
        data_url(PDF, "image/png"),
        "/etc/passwd",
        "http://[/",
        "http://u@x/",
    ],
)
async def test_a_refused_image_is_named_by_its_url(fetcher: Fetcher, url: str) -> None:
    expected = ("messages[1].content[1].image_url.url", "invalid_image_url")
    assert await refused(fetcher, image(url)) == expected


@pytest.mark.parametrize(
    ("file", "name", "code"),
    [
        (FileSource(file_data="!"), "file_data", "invalid_value"),
        (FileSource(file_data=b64(png()), filename="a.pdf"), "file_data", "invalid_value"),
        (FileSource(file_data="file:///etc/passwd"), "file_data", "invalid_value"),
        (FileSource(), "file_data", "missing_required_parameter"),
        (FileSource(file_id="file-1"), "file_id", "invalid_value"),
    ],
)
async def test_a_refused_file_is_named_by_its_field(
    fetcher: Fetcher, file: FileSource, name: str, code: str
) -> None:
    assert await refused(fetcher, FileContent(file)) == (f"messages[1].content[1].file.{name}", code)


async def test_messages_that_do_not_count_are_not_loaded(fetcher: Fetcher) -> None:
    messages: list[Message] = [
        UserMessage([image("nonsense")]),
        AssistantMessage("x"),
        UserMessage([image(data_url(png(), "image/png"))]),
    ]
    loaded = await load_media(messages, Media(fetcher, Settings()), start=2)
    assert loaded == {(2, 0): ImagePart("image/png", b64(png()))}


def test_a_history_is_another_when_its_media_are() -> None:
    parts: list[Part] = [
        ImagePart("image/png", "aGk="),
        ImagePart("image/gif", "aGk="),
        ImagePart("image/png", "aGkh"),
        DocumentPart("text/plain", "aGk="),
        DocumentPart("text/plain", "aGk=", "title"),
        DocumentPart("application/pdf", "aGk="),
    ]
    histories = [(Turn("user", (part,)), Turn("assistant", (part,))) for part in parts]
    prefixes = {prefix_of(RunRequest(agent="a", prompt=(), history=history)) for history in histories}
    assert len(prefixes) == len(parts)
