"""What becomes of a response's fields that cannot be honoured: refused by name, or ignored by name.

`docs/responses.md` has the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence

from api.claude_options import ClaudeOptions
from api.errors import ApiError
from api.openai.responses.wire import ReasoningOptions, ResponsesRequest, TextOptions

_LEAST_TOKENS = 16
_TRUNCATIONS = (None, "auto", "disabled")
_LOGPROBS = "message.output_text.logprobs"


def ignored_fields(request: ResponsesRequest, unknown: Sequence[str], tools: Sequence[str]) -> list[str]:
    """The fields that were sent and have no effect, sorted; raises `ApiError` 400 for what is refused.

    `unknown` are fields that the request does not have, `tools` the kinds of tools that are left out. A
    value that asks for nothing is not named.
    """
    _refuse(request)
    text, options = request.text or TextOptions(), request.reasoning or ReasoningOptions()
    claude = request.claude_options or ClaudeOptions()
    asked = {
        "claude_options.output_format": claude.output_format not in {None, "text"},
        "claude_options.debug": bool(claude.debug),
        "text.verbosity": text.verbosity not in {None, "medium"},
        "reasoning.mode": options.mode is not None,
        "reasoning.context": options.context is not None,
        "truncation": request.truncation == "auto",
        "context_management": bool(request.context_management),
        "moderation": request.moderation is not None,
        f"include.{_LOGPROBS}": _LOGPROBS in (request.include or ()),
    }
    return sorted({*unknown, *tools, *(name for name, is_asked in asked.items() if is_asked)})


def _refuse(request: ResponsesRequest) -> None:
    if request.prompt is not None:
        said = "Unsupported parameter: 'prompt'. There are no stored prompts."
        raise ApiError(400, said, param="prompt", code="unsupported_parameter")
    if request.background and request.store is False:
        raise _invalid("background", "A background response must be stored: 'store' may not be false.")
    if request.previous_response_id is not None and request.conversation is not None:
        said = "Only one of 'previous_response_id' and 'conversation' can say where to go on."
        raise ApiError(400, said, param="previous_response_id", code="mutually_exclusive_parameters")
    if request.max_output_tokens is not None and request.max_output_tokens < _LEAST_TOKENS:
        said = f"'max_output_tokens' must be at least {_LEAST_TOKENS}."
        raise ApiError(400, said, param="max_output_tokens", code="integer_below_min_value")
    if request.max_tool_calls is not None and request.max_tool_calls < 1:
        raise _invalid("max_tool_calls", "'max_tool_calls' must be at least 1.")
    if request.truncation not in _TRUNCATIONS:
        raise _invalid("truncation", "'truncation' must be 'auto' or 'disabled'.")


def _invalid(param: str, said: str) -> ApiError:
    return ApiError(400, said, param=param, code="invalid_value")
