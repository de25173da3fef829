"""The bodies of Chat Completions, request and answer (OpenAI's OpenAPI document of August 2026)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType


class TextContent(msgspec.Struct, frozen=True, tag="text", tag_field="type"):
    """A text part of a message."""

    text: str


class RefusalContent(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """A refusal part of an assistant message."""

    refusal: str


class ImageUrl(msgspec.Struct, frozen=True):
    """Where an image is; `detail` is accepted and has no effect."""

    url: str
    detail: str | None = None


class ImageContent(msgspec.Struct, frozen=True, tag="image_url", tag_field="type"):
    """An image part of a user message."""

    image_url: ImageUrl


class AudioContent(msgspec.Struct, frozen=True, tag="input_audio", tag_field="type"):
    """An audio part: refused by name, so that no input is dropped in silence."""


class FileContent(msgspec.Struct, frozen=True, tag="file", tag_field="type"):
    """A file part: refused by name, so that no input is dropped in silence."""


UserContent = str | list[TextContent | ImageContent | AudioContent | FileContent]
AssistantContent = str | list[TextContent | RefusalContent] | None
PlainContent = str | list[TextContent]


class FunctionCall(msgspec.Struct, frozen=True):
    """A function an assistant message called; `arguments` is JSON text."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call of an assistant message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


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


class ToolMessage(msgspec.Struct, frozen=True, tag="tool", tag_field="role"):
    """What a tool call gave back."""

    content: PlainContent
    tool_call_id: str


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


class StreamOptions(msgspec.Struct, frozen=True):
    """What else a stream should carry."""

    include_usage: bool | None = None


class ClaudeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Claude Code's own options: go on from a session by its id, or from the one used last with the agent."""

    session_id: str | None = None
    continue_: bool | None = msgspec.field(name="continue", default=None)


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/chat/completions`: the fields that have an effect here.

    `temperature` is OpenAI's 0 to 2; what lies above 1 is sent as 1, the model's own bound. With
    `conversation_id`, or a session of `claude_options`, that conversation is the history, and of `messages`
    only what follows the last assistant message is new.
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
    tools: list[dict[str, Any]] | None = None
    conversation_id: str | None = None
    claude_options: ClaudeOptions | None = None


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Where prompt tokens came from."""

    cached_tokens: int
    cache_write_tokens: int
    audio_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """What completion tokens were; the CLI does not tell thinking from text."""

    reasoning_tokens: int = 0
    audio_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class CompletionUsage(msgspec.Struct, frozen=True):
    """Tokens, as the CLI counted them; cache reads and writes are prompt tokens too."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails = CompletionTokensDetails()


class BacklineInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What only Backline can say of an answer, beside OpenAI's fields; `cost_usd` is the CLI's own sum."""

    run_id: str
    agent: str
    session_id: str | None = None
    conversation_id: str | None = None
    claude_model: str | None = None
    cost_usd: float | None = None
    ignored: list[str] = []


class AnswerMessage(msgspec.Struct, frozen=True):
    """The answer."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None


class Choice(msgspec.Struct, frozen=True):
    """The one choice of an answer."""

    message: AnswerMessage
    finish_reason: str
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a request that does not stream."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
    backline: BacklineInfo
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: str = "default"
    system_fingerprint: str | None = None


class ChunkDelta(msgspec.Struct, frozen=True):
    """What a chunk adds."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | None = UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    """The one choice of a chunk."""

    delta: ChunkDelta
    finish_reason: str | None = None
    index: int = 0
    logprobs: None = None


class ChatCompletionChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a streamed answer. `usage` is there, as null until the end, when the client asked for it."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    backline: BacklineInfo | UnsetType = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    service_tier: str = "default"
    system_fingerprint: str | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A model of `GET /v1/models`: an agent, or a Claude model behind the default agent."""

    id: str
    created: int
    owned_by: str = "backline"
    description: str = ""
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    """The answer to `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


class ErrorBody(msgspec.Struct, frozen=True):
    """OpenAI's error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorEnvelope(msgspec.Struct, frozen=True):
    """OpenAI's error envelope."""

    error: ErrorBody
