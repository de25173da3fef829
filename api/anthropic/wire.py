"""The bodies of Messages requests (Anthropic's API, version 2023-06-01, as its SDKs of 2026 send them).

Structs name what matters here; `cache_control`, citations and whatever else a block carries pass unread.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from api.backline import DetachableOptions
from api.claude_options import ClaudeOptions


class TextBlock(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A text."""

    text: str


class Base64Source(msgspec.Struct, frozen=True, tag="base64", tag_field="type"):
    """Bytes in the request itself."""

    media_type: str
    data: str


class UrlSource(msgspec.Struct, frozen=True, tag="url", tag_field="type"):
    """A URL."""

    url: str


class FileSource(msgspec.Struct, frozen=True, tag="file", tag_field="type"):
    """A file that was uploaded: refused by name."""

    file_id: str


class TextSource(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A document that is plain text."""

    data: str


class ContentSource(msgspec.Struct, frozen=True, tag="content", tag_field="type"):
    """A document of blocks."""

    content: str | list[TextBlock | ImageBlock]


class ImageBlock(msgspec.Struct, frozen=True, tag="image", tag_field="type"):
    """An image."""

    source: Base64Source | UrlSource | FileSource


class DocumentBlock(msgspec.Struct, frozen=True, tag="document", tag_field="type"):
    """A document; `title` and `context` are told to the model."""

    source: Base64Source | UrlSource | FileSource | TextSource | ContentSource
    title: str | None = None
    context: str | None = None


class SearchResultBlock(msgspec.Struct, frozen=True, tag="search_result", tag_field="type"):
    """What the client's own search found."""

    source: str
    title: str
    content: list[TextBlock]


class ToolUseBlock(msgspec.Struct, frozen=True, tag="tool_use", tag_field="type"):
    """A call of a client's tool, in an earlier answer."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(msgspec.Struct, frozen=True, tag="tool_result", tag_field="type"):
    """What a call gave back."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock] | None = None
    is_error: bool | None = None


class ThinkingBlock(msgspec.Struct, frozen=True, tag="thinking", tag_field="type"):
    """Thinking of an earlier answer: the agent's session holds its own."""


class RedactedThinkingBlock(msgspec.Struct, frozen=True, tag="redacted_thinking", tag_field="type"):
    """The same, unreadable."""


class ServerToolUseBlock(msgspec.Struct, frozen=True, tag="server_tool_use", tag_field="type"):
    """A call that another server made by itself: passed over, as are the results below."""


class WebSearchResultBlock(msgspec.Struct, frozen=True, tag="web_search_tool_result", tag_field="type"):
    """What such a call found."""


class WebFetchResultBlock(msgspec.Struct, frozen=True, tag="web_fetch_tool_result", tag_field="type"):
    """What such a call fetched."""


class CodeResultBlock(msgspec.Struct, frozen=True, tag="code_execution_tool_result", tag_field="type"):
    """What such a call ran."""


UserBlock = TextBlock | ImageBlock | DocumentBlock | SearchResultBlock | ToolResultBlock
AssistantBlock = (
    TextBlock
    | ToolUseBlock
    | ThinkingBlock
    | RedactedThinkingBlock
    | ServerToolUseBlock
    | WebSearchResultBlock
    | WebFetchResultBlock
    | CodeResultBlock
)


class UserMessage(msgspec.Struct, frozen=True, tag="user", tag_field="role"):
    """What the user said, showed, or gave back."""

    content: str | list[UserBlock]


class AssistantMessage(msgspec.Struct, frozen=True, tag="assistant", tag_field="role"):
    """What the assistant said or called."""

    content: str | list[AssistantBlock]


class SystemMessage(msgspec.Struct, frozen=True, tag="system", tag_field="role"):
    """Instructions among the messages."""

    content: str | list[TextBlock]


Message = UserMessage | AssistantMessage | SystemMessage


class Tool(msgspec.Struct, frozen=True):
    """A tool: the client's own has an `input_schema`, one of Anthropic's a dated `type`."""

    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class AutoChoice(msgspec.Struct, frozen=True, tag="auto", tag_field="type"):
    """The model decides."""

    disable_parallel_tool_use: bool | None = None


class AnyChoice(msgspec.Struct, frozen=True, tag="any", tag_field="type"):
    """One of the client's tools must be called."""

    disable_parallel_tool_use: bool | None = None


class NamedChoice(msgspec.Struct, frozen=True, tag="tool", tag_field="type"):
    """This tool must be called."""

    name: str
    disable_parallel_tool_use: bool | None = None


class NoneChoice(msgspec.Struct, frozen=True, tag="none", tag_field="type"):
    """None of the client's tools may be called."""


class Thinking(msgspec.Struct, frozen=True):
    """Whether the model thinks first, how much (`budget_tokens`), and whether it is shown."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonSchemaFormat(msgspec.Struct, frozen=True, tag="json_schema", tag_field="type"):
    """The answer is a JSON object that a schema allows."""

    schema: dict[str, Any]


class OutputConfig(msgspec.Struct, frozen=True):
    """How the answer is to be made."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonSchemaFormat | None = None


class Metadata(msgspec.Struct, frozen=True):
    """Who asks: accepted, without effect."""

    user_id: str | None = None


class CountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str
    messages: list[Message]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: AutoChoice | AnyChoice | NamedChoice | NoneChoice | None = None
    thinking: Thinking | None = None


class MessagesRequest(CountRequest, frozen=True, kw_only=True):
    """The body of `POST /v1/messages`: the fields whose value matters here.

    `conversation_id`, `project_id`, `claude_options` and `backline` are Backline's own, as in a chat request.
    """

    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    output_config: OutputConfig | None = None
    output_format: JsonSchemaFormat | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: dict[str, Any] | None = None
    conversation_id: str | None = None
    project_id: str | None = None
    claude_options: ClaudeOptions | None = None
    backline: DetachableOptions | None = None
