"""The response object, its items, and the events of its stream (OpenAI's OpenAPI document of August 2026)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from api.backline import BacklineInfo

ItemStatus = Literal["in_progress", "completed", "incomplete"]
Status = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ErrorCode = Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]


class TextContent(msgspec.Struct, frozen=True, tag="output_text", tag_field="type"):
    """A text of the answer."""

    text: str
    annotations: list[dict[str, Any]] = []
    logprobs: list[dict[str, Any]] = []


class RefusalContent(msgspec.Struct, frozen=True, tag="refusal", tag_field="type"):
    """The model declined."""

    refusal: str


Content = TextContent | RefusalContent


class SummaryText(msgspec.Struct, frozen=True, tag="summary_text", tag_field="type"):
    """A text of the model's thinking."""

    text: str


class MessageOutput(msgspec.Struct, frozen=True, tag="message", tag_field="type"):
    """What the model said."""

    id: str
    status: ItemStatus
    content: list[Content]
    role: Literal["assistant"] = "assistant"


class FunctionCallOutput(
    msgspec.Struct, frozen=True, tag="function_call", tag_field="type", omit_defaults=True
):
    """A function that the client is to call."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    arguments: str
    namespace: str | None = None


class CustomCallOutput(
    msgspec.Struct, frozen=True, tag="custom_tool_call", tag_field="type", omit_defaults=True
):
    """A custom tool that the client is to call."""

    id: str
    status: ItemStatus
    call_id: str
    name: str
    input: str
    namespace: str | None = None


class ReasoningOutput(msgspec.Struct, frozen=True, tag="reasoning", tag_field="type"):
    """The model's thinking."""

    id: str
    status: ItemStatus
    summary: list[SummaryText]
    encrypted_content: None = None


class AgentToolOutput(msgspec.Struct, frozen=True, tag="backline_tool_call", tag_field="type"):
    """What the agent did by itself: Backline's own item. `arguments` is JSON text."""

    id: str
    status: ItemStatus
    name: str
    arguments: str
    is_error: bool = False


OutputItem = MessageOutput | FunctionCallOutput | CustomCallOutput | ReasoningOutput | AgentToolOutput


class InputDetails(msgspec.Struct, frozen=True):
    """Where input tokens came from."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(msgspec.Struct, frozen=True):
    """What output tokens were; the CLI does not tell thinking from text."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    """Tokens, as the CLI counted them; cache reads and writes are input tokens too."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(msgspec.Struct, frozen=True):
    """Why a response failed; `code` is one of OpenAI's."""

    code: ErrorCode
    message: str


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response is incomplete."""

    reason: Literal["max_output_tokens", "content_filter"]


class Conversation(msgspec.Struct, frozen=True):
    """The conversation that a response was added to."""

    id: str


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response. Every field is always there: some clients want those too that OpenAI calls optional."""

    id: str
    created_at: int
    status: Status
    model: str
    backline: BacklineInfo
    object: Literal["response"] = "response"
    output: list[OutputItem] = []
    usage: ResponseUsage | None = None
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    completed_at: int | None = None
    instructions: str | None = None
    previous_response_id: str | None = None
    conversation: Conversation | None = None
    background: bool = False
    store: bool = True
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_logprobs: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    text: dict[str, Any] = {}
    reasoning: dict[str, Any] = {}
    truncation: str = "disabled"
    metadata: dict[str, str] = {}
    service_tier: str = "default"
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing of it can change any more."""
        return self.status not in {"queued", "in_progress"}

    def begun(self) -> Response:
        """The response as it was before the first word: what its stream begins with."""
        info = self.backline
        return msgspec.structs.replace(
            self,
            status="queued" if self.background else "in_progress",
            output=[],
            usage=None,
            error=None,
            incomplete_details=None,
            completed_at=None,
            backline=BacklineInfo(
                info.run_id, info.agent, conversation_id=info.conversation_id, ignored=info.ignored
            ),
        )
