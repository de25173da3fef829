"""How many tokens a request's words will take, guessed from their bytes: there is no tokenizer here.

Anthropic publishes none for its present models. With the last that it did publish, samples of seven
languages, of code and of JSON had 1.9 (Arabic), 2.5 (JSON) to 4.7 (English prose) bytes of UTF-8 a token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from api.anthropic.image_size import image_size
from api.anthropic.tools import tools_of
from api.anthropic.wire import (
    AssistantBlock,
    Base64Source,
    ContentSource,
    CountRequest,
    DocumentBlock,
    ImageBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ToolResultBlock,
    ToolUseBlock,
    UserBlock,
)

BYTES_A_TOKEN = 3
FRAME = 4
"""Tokens around a message or a tool."""
WITH_TOOLS = 340
"""Tokens of the prompt that comes with tools, by Anthropic's documentation of tool use."""
_PIXELS_A_TOKEN = 750
_LONGEST_EDGE = 1568
_MOST_FOR_IMAGE = 1600
"""By Anthropic's documentation of vision: what is larger is scaled down to these."""
_FILE_BYTES_A_TOKEN = 30
"""Of a PDF; a guess, since a page is 1500 tokens or more whatever its size."""

Content = str | Sequence[UserBlock | AssistantBlock]


def estimate(request: CountRequest) -> int:
    """Tokens of the input, as a guess; raises `ApiError` 400 for tools that cannot be had."""
    tools, _ = tools_of(request)
    tally = _Tally()
    if request.system is not None:
        tally.add(request.system)
    for message in request.messages:
        tally.tokens += FRAME
        tally.add(message.content)
    for tool in tools:
        tally.tokens += FRAME
        tally.say(tool.name, tool.description)
        tally.size += len(msgspec.json.encode(tool.parameters))
    return max(1, tally.tokens + (WITH_TOOLS if tools else 0) + math.ceil(tally.size / BYTES_A_TOKEN))


class _Tally:
    """Bytes of text, and tokens of what is not text."""

    def __init__(self) -> None:
        self.size = 0
        self.tokens = 0

    def say(self, *texts: str | None) -> None:
        self.size += sum(len(text.encode(errors="surrogatepass")) for text in texts if text)

    def add(self, content: Content) -> None:
        if isinstance(content, str):
            self.say(content)
            return
        for block in content:
            self._add_block(block)

    def _add_block(self, block: UserBlock | AssistantBlock) -> None:
        match block:
            case TextBlock(text=text):
                self.say(text)
            case ImageBlock(source=source):
                self.tokens += (
                    image_tokens(source.data) if isinstance(source, Base64Source) else _MOST_FOR_IMAGE
                )
            case DocumentBlock():
                self._add_document(block)
            case SearchResultBlock(source=origin, title=title, content=content):
                self.say(origin, title)
                self.add(content)
            case ToolUseBlock(name=name, input=arguments):
                self.say(name)
                self.size += len(msgspec.json.encode(arguments))
            case ToolResultBlock(content=content):
                self.add(content or "")

    def _add_document(self, block: DocumentBlock) -> None:
        self.say(block.title, block.context)
        match block.source:
            case TextSource(data=text):
                self.say(text)
            case ContentSource(content=content):
                self.add(content)
            case Base64Source(data=data):
                self.tokens += file_tokens(data)


def file_tokens(data: str) -> int:
    """The tokens of a PDF in base64."""
    return math.ceil(len(data) * 3 / 4 / _FILE_BYTES_A_TOKEN)


def image_tokens(data: str) -> int:
    """An image's tokens by its size in pixels; the most there are for one whose size cannot be read."""
    size = image_size(data)
    if size is None:
        return _MOST_FOR_IMAGE
    width, height = size
    scale = min(1.0, _LONGEST_EDGE / max(width, height, 1))
    return max(1, min(_MOST_FOR_IMAGE, math.ceil(width * scale * height * scale / _PIXELS_A_TOKEN)))
