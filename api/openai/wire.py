"""The body of a Chat Completions request (OpenAI's OpenAPI document of August 2026)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from api.backline import DetachableOptions
from api.claude_options import ClaudeOptions


class TextContent(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A text part of a message."""

    text: str


class RefusalContent(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """A refusal part of an assistant message."""

    refusal: str


class ImageUrl(msgspec.Struct, frozen=True):
    """Where an image is; `detail` is accepted and has no effect. `file_id` is one that was uploaded."""

    url: str
    detail: str | None = None
    file_id: str | None = None


class ImageContent(msgspec.Struct, frozen=True, tag="image_url", tag_field="type"):
    """An image part of a user message."""

    image_url: ImageUrl


class AudioContent(msgspec.Struct, frozen=True, tag="input_audio", tag_field="type"):
    """An audio part: refused by name, so that no input is dropped in silence."""


class FileSource(msgspec.Struct, frozen=True):
    """A file: `file_data` is a data URL, a URL, or plain base64; `file_id` one that was uploaded."""

    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None


class FileContent(msgspec.Struct, frozen=True, tag="file", tag_field="type"):
    """A file part of a user message: a PDF or a text."""

    file: FileSource


UserContent = str | list[TextContent | ImageContent | AudioContent | FileContent]
AssistantContent = str | list[TextContent | RefusalContent] | None
PlainContent = str | list[TextContent]


class FunctionCall(msgspec.Struct, frozen=True):
    """A function an assistant message called; `arguments` is JSON text."""

    name: str
    arguments: str


class CustomCall(msgspec.Struct, frozen=True):
    """A custom tool an assistant message called; `input` is any text."""

    name: str
    input: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call of an assistant message."""

    id: str
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    type: Literal["function", "custom"] = "function"


class SystemMessage(msgspec.Struct, frozen=True, tag="system", tag_field="role"):
    """Instructions."""

    content: PlainContent


class DeveloperMessage(msgspec.Struct, frozen=True, tag="developer", tag_field="role"):
    """Instructions, in the newer word."""

    content: PlainContent


class UserMessage(msgspec.Struct, frozen=True, tag="user", tag_field="role"):
    """What the user said."""

    content: UserContent


class AssistantMessage(msgspec.Struct, frozen=True, tag="assistant", tag_field="role"):
    """What the assistant said or called."""

    content: AssistantContent = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ToolMessage(msgspec.Struct, frozen=True, tag="tool", tag_field="role"):
    """What a tool call gave back."""

    content: PlainContent
    tool_call_id: str


class FunctionMessage(msgspec.Struct, frozen=True, tag="function", tag_field="role"):
    """What a function call gave back, in the older form: it answers the call of this name before it."""

    name: str
    content: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage


class Function(msgspec.Struct, frozen=True):
    """A function of the client's; `parameters` is a JSON Schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(msgspec.Struct, frozen=True, tag="function", tag_field="type"):
    """A tool that is a function."""

    function: Function


class Custom(msgspec.Struct, frozen=True):
    """A tool that takes any text; a grammar for it cannot be kept to."""

    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class CustomTool(msgspec.Struct, frozen=True, tag="custom", tag_field="type"):
    """A tool that takes any text."""

    custom: Custom


class Named(msgspec.Struct, frozen=True):
    """A tool by its name."""

    name: str


class FunctionChoice(msgspec.Struct, frozen=True, tag="function", tag_field="type"):
    """The function that must be called."""

    function: Named


class CustomChoice(msgspec.Struct, frozen=True, tag="custom", tag_field="type"):
    """The custom tool that must be called."""

    custom: Named


class AllowedTool(msgspec.Struct, frozen=True):
    """One of the tools that may be called."""

    function: Named | None = None
    custom: Named | None = None


class Allowed(msgspec.Struct, frozen=True):
    """The tools that may (`auto`) or must (`required`) be called."""

    mode: Literal["auto", "required"]
    tools: list[AllowedTool]


class AllowedChoice(msgspec.Struct, frozen=True, tag="allowed_tools", tag_field="type"):
    """Some of the tools only."""

    allowed_tools: Allowed


class TextFormat(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """The answer is text."""


class JsonObjectFormat(msgspec.Struct, frozen=True, tag="json_object", tag_field="type"):
    """The answer is a JSON object."""


class OutputSchema(msgspec.Struct, frozen=True):
    """The JSON Schema of the answer. It is kept to, `strict` or not."""

    name: str
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True, tag="json_schema", tag_field="type"):
    """The answer is a JSON object that a schema allows."""

    json_schema: OutputSchema


Metadata = dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]]


class StreamOptions(msgspec.Struct, frozen=True):
    """What else a stream should carry."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`: the fields whose value matters here.

    `temperature` is OpenAI's 0 to 2; what lies above 1 is sent as 1, the model's own bound. With
    `conversation_id`, or a session of `claude_options`, that conversation is the history, and of `messages`
    only what follows the last assistant message is new. `project_id` names the working copy to run in.
    """

    model: str
    messages: list[Message]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    tools: list[FunctionTool | CustomTool] | None = None
    tool_choice: str | FunctionChoice | CustomChoice | AllowedChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: list[Function] | None = None
    function_call: str | Named | None = None
    response_format: TextFormat | JsonObjectFormat | JsonSchemaFormat | None = None
    reasoning_effort: str | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    metadata: Metadata | None = None
    store: bool | None = None
    user: Any = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: str | None = None
    web_search_options: dict[str, Any] | None = None
    conversation_id: str | None = None
    project_id: str | None = None
    claude_options: ClaudeOptions | None = None
    backline: DetachableOptions | None = None
