"""The older Completions API: its request, and its answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from api.backline import BacklineInfo
from api.openai.completion import CompletionUsage
from api.openai.wire import StreamOptions

Token = Annotated[int, msgspec.Meta(ge=0)]


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/completions`: each prompt is a user message of its own."""

    model: str
    prompt: str | list[str | Token | list[Token]]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    best_of: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    user: Any = None
    service_tier: str | None = None


class TextChoice(msgspec.Struct, frozen=True):
    """One of the texts; in a stream a piece of it."""

    text: str
    index: int
    finish_reason: str | None = None
    logprobs: None = None


class TextCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, or a chunk of it."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: CompletionUsage | UnsetType | None = UNSET
    backline: BacklineInfo | UnsetType = UNSET
    service_tier: str | UnsetType = UNSET
    """What it waited as, where that is not `default`."""
    object: Literal["text_completion"] = "text_completion"
