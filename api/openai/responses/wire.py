"""The body of `POST /v1/responses` (OpenAI's OpenAPI document of August 2026)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.backline import BacklineOptions
from api.claude_options import ClaudeOptions
from api.openai.wire import Metadata


class InputText(msgspec.Struct, frozen=True, tag="input_text", tag_field="type"):
    """A text for the model."""

    text: str


class OutputText(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    """A text of the model's, sent back."""

    text: str


class Refusal(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """A refusal of the model's, sent back."""

    refusal: str


class InputImage(msgspec.Struct, frozen=True, tag="input_image", tag_field="type"):
    """An image, by data URL, URL or path, or one that was uploaded."""

    image_url: str | None = None
    file_id: str | None = None


class InputFile(msgspec.Struct, frozen=True, tag="input_file", tag_field="type"):
    """A PDF or a text: `file_data` is a data URL or plain base64, `file_url` a URL."""

    file_data: str | None = None
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None


class InputAudio(msgspec.Struct, frozen=True, tag="input_audio", tag_field="type"):
    """Audio: refused by name, so that no input is dropped in silence."""


Part = InputText | OutputText | Refusal | InputImage | InputFile | InputAudio
OutputPart = InputText | InputImage | InputFile


class MessageItem(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """One side's say."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    id: str | None = None


class FunctionCallItem(msgspec.Struct, frozen=True, tag="function_call", tag_field="type"):
    """A function the model has called; `arguments` is JSON text."""

    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class FunctionOutputItem(msgspec.Struct, frozen=True, tag="function_call_output", tag_field="type"):
    """What a function gave back."""

    call_id: str
    output: str | list[OutputPart]


class CustomCallItem(msgspec.Struct, frozen=True, tag="custom_tool_call", tag_field="type"):
    """A custom tool the model has called with a text."""

    call_id: str
    name: str
    input: str
    namespace: str | None = None


class CustomOutputItem(msgspec.Struct, frozen=True, tag="custom_tool_call_output", tag_field="type"):
    """What a custom tool gave back."""

    call_id: str
    output: str | list[OutputPart]


class ReasoningItem(msgspec.Struct, frozen=True, tag="reasoning", tag_field="type"):
    """The model's thinking, sent back: the agent's own session has it, or nobody."""


class AgentToolItem(msgspec.Struct, frozen=True, tag="backline_tool_call", tag_field="type"):
    """What the agent did by itself, sent back: it has no effect."""


class ItemReference(msgspec.Struct, frozen=True, tag="item_reference", tag_field="type"):
    """An item of a stored response, by its id."""

    id: str


Item = (
    MessageItem
    | FunctionCallItem
    | FunctionOutputItem
    | CustomCallItem
    | CustomOutputItem
    | ReasoningItem
    | AgentToolItem
    | ItemReference
)


class TextOptions(msgspec.Struct, frozen=True):
    """What the answer must be; `verbosity` has no effect."""

    format: dict[str, Any] | None = None
    verbosity: str | None = None


class ReasoningOptions(msgspec.Struct, frozen=True):
    """How much to think, and whether to tell of it."""

    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None
    mode: str | None = None
    context: str | None = None


class ConversationName(msgspec.Struct, frozen=True):
    """A conversation by its id."""

    id: str


class ResponsesRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/responses`: the fields whose value matters here.

    `input` is a text or a list of items. `previous_response_id` goes on from a stored response,
    `conversation` from a stored conversation. A `background` response runs on without a connection.
    """

    model: str
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: str | ConversationName | None = None
    background: bool | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    include: list[str] | None = None
    truncation: str | None = None
    metadata: Metadata | None = None
    service_tier: str | None = None
    user: Any = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    client_metadata: Any = None
    prompt: dict[str, Any] | None = None
    context_management: list[dict[str, Any]] | None = None
    moderation: dict[str, Any] | None = None
    project_id: str | None = None
    claude_options: ClaudeOptions | None = None
    backline: BacklineOptions | None = None

    @property
    def conversation_id(self) -> str | None:
        """The conversation it names, in either form."""
        named = self.conversation
        return named.id if isinstance(named, ConversationName) else named

    @property
    def is_stored(self) -> bool:
        """Whether the response is kept; OpenAI's default."""
        return self.store is not False

    @property
    def wants_summary(self) -> bool:
        """Whether the model's thinking is to be told."""
        options = self.reasoning or ReasoningOptions()
        shown = (self.backline.show if self.backline is not None else None) or ()
        return bool(options.summary or options.generate_summary) or "thinking" in shown

    @property
    def shows_tools(self) -> bool:
        """Whether what the agent does by itself is to be told."""
        return "tools" in ((self.backline.show if self.backline is not None else None) or ())
