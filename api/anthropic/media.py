"""Images and documents of a Messages request: found, loaded, and as parts of a turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from api.anthropic.wire import (
    AssistantBlock,
    Base64Source,
    ContentSource,
    DocumentBlock,
    ImageBlock,
    Message,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ToolResultBlock,
    UrlSource,
    UserBlock,
    UserMessage,
)
from api.errors import ApiError
from api.media.kinds import title_of
from api.media.load import Media, MediaPart, MediaRefusedError, Wanted, WantedDocument, WantedImage
from api.media.sources import Inline, MediaError, Source, decode_base64, source_of_url
from shared.content import DocumentPart, Part, TextPart

Shown = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock
Loaded = Mapping[str, MediaPart]
"""What was loaded, by the place of its block: `messages[0].content[1]`."""
NOTHING: Loaded = MappingProxyType({})


async def load_media(messages: Sequence[Message], media: Media, *, start: int = 0) -> Loaded:
    """The images and documents of the user's messages from number `start` on.

    Raises `ApiError` 400, with the place in `param`, for one that cannot be had.
    """
    wanted: dict[str, Wanted] = {}
    for index, message in enumerate(messages[start:], start):
        if isinstance(message, UserMessage) and not isinstance(message.content, str):
            for place, block in _blocks(message.content, f"messages[{index}].content"):
                if (want := _wanted(block, place)) is not None:
                    wanted[place] = want
    try:
        return await media.load(wanted)
    except MediaRefusedError as error:
        raise _refused(error.place, str(error)) from error


def parts_of(block: Shown, where: str, media: Loaded) -> list[Part]:
    """What a block shows the model; a blank text shows nothing."""
    match block:
        case TextBlock(text=text):
            return [TextPart(text)] if text.strip() else []
        case SearchResultBlock(source=origin, title=title, content=content):
            text = "\n".join(each.text for each in content)
            return [TextPart(f"{title}\n{origin}\n\n{text}")]
        case ImageBlock():
            return [media[where]]
    context = block.context or ""
    return [*([TextPart(context)] if context.strip() else ()), *_document(block, where, media)]


def _document(block: DocumentBlock, where: str, media: Loaded) -> list[Part]:
    title = title_of(block.title or "")
    match block.source:
        case TextSource(data=text) | ContentSource(content=str(text)):
            return [DocumentPart("text/plain", text, title)] if text.strip() else []
        case ContentSource(content=list(content)):
            inner = f"{where}.source.content"
            heading: list[Part] = [TextPart(title)] if title else []
            parts = (parts_of(each, f"{inner}[{at}]", media) for at, each in enumerate(content))
            return [*heading, *(part for each in parts for part in each)]
    return [media[where]]


def _blocks(
    content: Sequence[UserBlock | AssistantBlock], where: str
) -> Iterator[tuple[str, UserBlock | AssistantBlock]]:
    """All blocks with their places, those inside of others too."""
    for index, block in enumerate(content):
        place = f"{where}[{index}]"
        yield place, block
        match block:
            case ToolResultBlock(content=list(inner)):
                yield from _blocks(inner, f"{place}.content")
            case DocumentBlock(source=ContentSource(content=list(shown))):
                yield from _blocks(shown, f"{place}.source.content")


def _wanted(block: UserBlock | AssistantBlock, place: str) -> Wanted | None:
    match block:
        case ImageBlock(source=source):
            return WantedImage(_source(source, place))
        case DocumentBlock(source=(TextSource() | ContentSource())):
            return None
        case DocumentBlock(source=source, title=title):
            return WantedDocument(_source(source, place), title or "")
    return None


def _source(source: object, place: str) -> Source:
    try:
        match source:
            case Base64Source(media_type=declared, data=data):
                return Inline(decode_base64(data), declared.strip().lower())
            case UrlSource(url=url):
                return source_of_url(url)
    except MediaError as error:
        raise _refused(place, str(error)) from error
    raise _refused(place, "Files cannot be uploaded to this server: send base64 or a URL.")


def _refused(place: str, said: str) -> ApiError:
    param = f"{place}.source"
    return ApiError(400, f"Invalid '{param}': {said}", param=param, code="invalid_value")
