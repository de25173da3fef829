"""How many tokens the words of a run will take, guessed from their bytes (see `api.anthropic.estimate`)."""

from __future__ import annotations

import math

import msgspec

from api.anthropic.estimate import BYTES_A_TOKEN, FRAME, WITH_TOOLS, file_tokens, image_tokens
from shared.content import DocumentPart, ImagePart, Part, TextPart, ToolResultPart, ToolUsePart
from shared.runs import ClientTool, RunRequest


def estimate_run(run: RunRequest) -> int:
    """Tokens of what a client said: instructions, history, prompt, tools."""
    turns = [*(turn.parts for turn in run.history), run.prompt]
    parts = [part for turn in turns for part in turn]
    size = _size(run.system) + sum(_bytes(part) for part in parts) + sum(_tool(tool) for tool in run.tools)
    tokens = FRAME * (len(turns) + len(run.tools)) + (WITH_TOOLS if run.tools else 0)
    return tokens + sum(_tokens(part) for part in parts) + math.ceil(size / BYTES_A_TOKEN)


def _bytes(part: Part) -> int:
    match part:
        case TextPart(text=text) | ToolResultPart(text=text):
            return _size(text)
        case DocumentPart(media_type="text/plain", data=text):
            return _size(text)
        case ToolUsePart(name=name, input=arguments):
            return _size(name) + len(msgspec.json.encode(arguments))
    return 0


def _tokens(part: Part) -> int:
    match part:
        case ImagePart(data=data):
            return image_tokens(data)
        case DocumentPart(media_type=kind, data=data) if kind != "text/plain":
            return file_tokens(data)
    return 0


def _tool(tool: ClientTool) -> int:
    return _size(tool.name) + _size(tool.description) + len(msgspec.json.encode(tool.parameters))


def _size(text: str | None) -> int:
    return len(text.encode(errors="surrogatepass")) if text else 0
