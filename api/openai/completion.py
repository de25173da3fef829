"""The answers of Chat Completions and of the model list (OpenAI's OpenAPI document of August 2026)."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.backline import BacklineInfo


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


class CalledFunction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function the model calls; `arguments` is JSON text, in a stream a piece of it."""

    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CalledCustom(msgspec.Struct, frozen=True):
    """A custom tool the model calls."""

    name: str
    input: str


class MadeCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of an answer."""

    id: str
    type: Literal["function", "custom"] = "function"
    function: CalledFunction | UnsetType = UNSET
    custom: CalledCustom | UnsetType = UNSET


class CallChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a tool call. Id, type and name come once: readers join the pieces."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: CalledFunction | UnsetType = UNSET
    custom: CalledCustom | UnsetType = UNSET


class AnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `reasoning_content` is there when the client asked to see the model's thinking."""

    content: str | None
    role: Literal["assistant"] = "assistant"
    refusal: str | None = None
    annotations: list[None] = []
    tool_calls: list[MadeCall] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class Choice(msgspec.Struct, frozen=True):
    """One of the answers."""

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
    metadata: dict[str, str] | UnsetType = UNSET


class ChunkDelta(msgspec.Struct, frozen=True):
    """What a chunk adds."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    refusal: UnsetType | str | None = UNSET
    tool_calls: list[CallChunk] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, frozen=True):
    """One choice of a chunk."""

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
