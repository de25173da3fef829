"""A run as the body of a Chat Completions request to another service. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from shared.content import DocumentPart, ImagePart, Part, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.fallbacks import Fallback
from shared.runs import Effort, RunRequest, Sampling, ToolChoice

_EFFORTS: dict[Effort, str] = {"max": "xhigh"}
"""Where OpenAI's word is another."""
_MODES = {"auto": "auto", "none": "none", "required": "required"}


def body_of(request: RunRequest, fallback: Fallback) -> dict[str, Any]:
    """The JSON object to send; it always streams, so that there is one way to read what comes."""
    body: dict[str, Any] = {
        "model": fallback.model_for(request.agent, request.model),
        "messages": list(_messages(request)),
        "stream": True,
        "stream_options": {"include_usage": True},
        **_sampling(request.sampling, fallback.limit_field),
    }
    if request.tools:
        body["tools"] = [{"type": "function", "function": _function(tool)} for tool in request.tools]
        body["tool_choice"] = _choice(request.tool_choice)
        if not request.tool_choice.is_parallel:
            body["parallel_tool_calls"] = False
    if request.output is not None:
        schema = request.output.schema
        body["response_format"] = (
            {"type": "json_object"}
            if schema is None
            else {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        )
    return body


def _sampling(sampling: Sampling, limit_field: str) -> dict[str, Any]:
    asked: dict[str, Any] = {
        limit_field: sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop) or None,
        "reasoning_effort": _EFFORTS.get(sampling.effort, sampling.effort) if sampling.effort else None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _function(tool: Any) -> dict[str, Any]:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    said = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {**said, "strict": True} if tool.strict else said


def _choice(choice: ToolChoice) -> Any:
    if choice.mode == "named":
        return {"type": "function", "function": {"name": choice.name}}
    return _MODES[choice.mode]


def _messages(request: RunRequest) -> Iterator[dict[str, Any]]:
    if request.system:
        yield {"role": "system", "content": request.system}
    for turn in (*request.history, Turn(role="user", parts=request.prompt)):
        yield from _assistants(turn.parts) if turn.role == "assistant" else _users(turn.parts)


def _assistants(parts: tuple[Part, ...]) -> Iterator[dict[str, Any]]:
    text = "".join(part.text for part in parts if isinstance(part, TextPart))
    calls = [
        {
            "id": part.id,
            "type": "function",
            "function": {"name": part.name, "arguments": msgspec.json.encode(part.input).decode()},
        }
        for part in parts
        if isinstance(part, ToolUsePart)
    ]
    yield {"role": "assistant", "content": text or None, **({"tool_calls": calls} if calls else {})}


def _users(parts: tuple[Part, ...]) -> Iterator[dict[str, Any]]:
    """Results of tools are messages of their own, and come first: they answer the turn before."""
    content: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case ToolResultPart(tool_use_id=call, text=text):
                yield {"role": "tool", "tool_call_id": call, "content": text}
            case TextPart(text=text):
                content.append({"type": "text", "text": text})
            case ImagePart(media_type=kind, data=data):
                content.append({"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}})
            case DocumentPart():
                content.append(_document(part))
    if len(content) == 1 and content[0]["type"] == "text":
        yield {"role": "user", "content": content[0]["text"]}
    elif content:
        yield {"role": "user", "content": content}


def _document(part: DocumentPart) -> dict[str, Any]:
    if part.media_type == "text/plain":
        title = f"{part.title}:\n" if part.title else ""
        return {"type": "text", "text": title + part.data}
    data = f"data:{part.media_type};base64,{part.data}"
    return {"type": "file", "file": {"filename": part.title or "document.pdf", "file_data": data}}
