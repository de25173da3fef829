"""A chat request into a `RunRequest`: pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from api.backline import may_cache, may_fall_back
from api.claude_options import ClaudeOptions
from api.conversations import Thread
from api.errors import ApiError
from api.media.load import MediaPart
from api.models import Choice
from api.numbers import MOST_TOKENS, check_range
from api.openai.media import Place
from api.openai.policy import effort_of, tier_of
from api.openai.tools import custom_arguments, output_of, tools_of
from api.openai.wire import (
    AssistantMessage,
    AudioContent,
    ChatRequest,
    DeveloperMessage,
    FileContent,
    FunctionMessage,
    ImageContent,
    Message,
    PlainContent,
    RefusalContent,
    SystemMessage,
    TextContent,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from api.turns import TurnsBuilder, call_id, unanswered
from shared.content import Part, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.runs import LaunchOptions, RunRequest, Sampling

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 128
_NO_MEDIA: Mapping[Place, MediaPart] = MappingProxyType({})
_MAX_STOPS = 4
_MAX_STOP_LENGTH = 256
_NO_OPTIONS = LaunchOptions()


def translate(
    request: ChatRequest,
    choice: Choice,
    *,
    tenant: str,
    request_id: str,
    history_limit: int,
    thread: Thread | None = None,
    options: LaunchOptions = _NO_OPTIONS,
    media: Mapping[Place, MediaPart] = _NO_MEDIA,
) -> RunRequest:
    """Translate a request; raises `ApiError` 400 for what cannot be honoured.

    `media` has the images and files of the messages from `first_needed` on. With a `thread` that has begun,
    its own history and instructions count, not the request's.
    """
    if len(request.messages) > history_limit:
        said = f"'messages' may have at most {history_limit} entries; this has {len(request.messages)}."
        raise ApiError(400, said, param="messages", code="array_above_max_length")
    is_begun = thread is not None and thread.record.has_begun
    start = first_needed(request.messages, thread)
    turns, system = _conversation(request.messages, start, media, is_stored=is_begun)
    if not turns:
        raise ApiError(
            400, "There must be at least one user message.", param="messages", code="invalid_value"
        )
    if turns[-1].role != "user":
        said = "The last message must be the user's or a tool's: the agent has nothing to answer."
        raise ApiError(400, said, param=f"messages[{len(request.messages) - 1}]", code="invalid_value")
    tools, output = tools_of(request), output_of(request)
    run = RunRequest(
        agent=choice.agent,
        prompt=turns[-1].parts,
        history=tuple(turns[:-1]),
        model=choice.claude_model,
        revision=choice.revision,
        system="\n\n".join(filter(None, (system, output.instruction))) or None,
        sampling=_sampling(request),
        tenant=tenant,
        request_id=request_id,
        tools=tools.tools,
        tool_choice=tools.choice,
        output=output.output,
        options=options,
        on_worker_loss=request.backline.on_worker_loss if request.backline is not None else None,
        may_fall_back=may_fall_back(request.backline),
        may_cache=may_cache(request.backline),
        tier=tier_of(request),
    )
    return run if thread is None else thread.go_on(run)


def first_needed(messages: Sequence[Message], thread: Thread | None) -> int:
    """The number of the first message that counts: a conversation that has begun has those before it."""
    if thread is None or not thread.record.has_begun:
        return 0
    answers = [index for index, message in enumerate(messages) if isinstance(message, AssistantMessage)]
    return answers[-1] + 1 if answers else 0


def _conversation(
    messages: Sequence[Message], start: int, media: Mapping[Place, MediaPart], *, is_stored: bool
) -> tuple[list[Turn], str]:
    """Alternating turns, and all instructions in their order, from message number `start` on.

    `is_stored` says that the turns before are a stored conversation's, with calls of its own.

    Messages without content add nothing.
    """
    if not messages:
        raise ApiError(400, "'messages' must not be empty.", param="messages", code="invalid_value")
    built = TurnsBuilder()
    system: list[str] = []
    legacy_ids: dict[str, str] = {}
    for index, message in enumerate(messages[start:], start):
        where = f"messages[{index}]"
        match message:
            case SystemMessage(content=content) | DeveloperMessage(content=content):
                system.append(_plain(content))
            case UserMessage():
                built.add("user", _user_parts(message, index, media))
            case AssistantMessage():
                built.add("assistant", _assistant_parts(message, where))
                if message.function_call is not None:
                    legacy_ids[message.function_call.name] = _legacy_id(where)
            case ToolMessage(content=content, tool_call_id=given):
                result = ToolResultPart(tool_use_id=call_id(given), text=_plain(content))
                _add_result(built, result, where, is_known=is_stored)
            case FunctionMessage(name=name, content=text):
                result = ToolResultPart(tool_use_id=legacy_ids.get(name, ""), text=text or "")
                _add_result(built, result, where, is_known=False)
    turns = built.turns()
    _require_results(turns)
    return turns, "\n\n".join(text for text in system if text)


def _user_parts(message: UserMessage, number: int, media: Mapping[Place, MediaPart]) -> tuple[Part, ...]:
    if isinstance(message.content, str):
        return (TextPart(message.content),) if message.content.strip() else ()
    parts: list[Part] = []
    for index, part in enumerate(message.content):
        match part:
            case TextContent(text=text):
                parts += [TextPart(text)] if text.strip() else []
            case ImageContent() | FileContent():
                parts.append(media[number, index])
            case AudioContent():
                raise _unsupported(
                    f"messages[{number}].content[{index}]", "Audio cannot be given to an agent."
                )
    return tuple(parts)


def _assistant_parts(message: AssistantMessage, where: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    match message.content:
        case str(text):
            parts += [TextPart(text)] if text.strip() else []
        case list(content):
            for part in content:
                text = part.refusal if isinstance(part, RefusalContent) else part.text
                parts += [TextPart(text)] if text.strip() else []
    if message.refusal:
        parts.append(TextPart(message.refusal))
    for index, call in enumerate(message.tool_calls or ()):
        parts.append(_tool_use(call, f"{where}.tool_calls[{index}]"))
    if message.function_call is not None:
        call = ToolCall(id=_legacy_id(where), function=message.function_call)
        parts.append(_tool_use(call, f"{where}.function_call"))
    return tuple(parts)


def _tool_use(call: ToolCall, where: str) -> ToolUsePart:
    if call.custom is not None:
        return ToolUsePart(call_id(call.id), call.custom.name, custom_arguments(call.custom.input))
    if call.function is None:
        raise ApiError(
            400,
            f"Missing required parameter: '{where}.function'.",
            param=f"{where}.function",
            code="missing_required_parameter",
        )
    where = f"{where}.function.arguments"
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}", type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise ApiError(
            400, f"Invalid '{where}': must be a JSON object as text.", param=where, code="invalid_value"
        ) from error
    return ToolUsePart(id=call_id(call.id), name=_called(call.function.name), input=arguments)


def _called(name: str) -> str:
    """A called tool's name as the Messages API takes one: a history may be another server's."""
    return _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME] or "_"


def _legacy_id(where: str) -> str:
    """An id for a call of the older form, which has none: its message's place."""
    return call_id(f"call of {where}")


def _add_result(built: TurnsBuilder, result: ToolResultPart, where: str, *, is_known: bool) -> None:
    """A result must answer a call of the assistant turn before it, or the model refuses it.

    `is_known` says that the turn before is a stored conversation's, which knows its calls.
    """
    if not is_known and result.tool_use_id not in built.calls:
        said = f"Invalid '{where}.tool_call_id': no assistant message before it made the call."
        raise ApiError(400, said, param=f"{where}.tool_call_id", code="invalid_value")
    if not built.take_result(result.tool_use_id):
        said = f"Duplicate value for '{where}.tool_call_id': a message before it has the call's result."
        raise ApiError(400, said, param=f"{where}.tool_call_id", code="invalid_value")
    built.add("user", (result,))


def _require_results(turns: Sequence[Turn]) -> None:
    if missing := unanswered(turns):
        said = "An assistant message with 'tool_calls' must be followed by tool messages that answer each"
        raise ApiError(
            400,
            f"{said} 'tool_call_id': {', '.join(missing)[:200]}.",
            param="messages",
            code="invalid_value",
        )


def _plain(content: PlainContent) -> str:
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


def _sampling(request: ChatRequest) -> Sampling:
    stop = (request.stop,) if isinstance(request.stop, str) else tuple(request.stop or ())
    if any(len(text) > _MAX_STOP_LENGTH for text in stop):
        said = f"An entry of 'stop' may have at most {_MAX_STOP_LENGTH} characters."
        raise ApiError(400, said, param="stop", code="invalid_value")
    if len(stop) > _MAX_STOPS:
        raise ApiError(
            400, f"'stop' may have at most {_MAX_STOPS} entries.", param="stop", code="invalid_value"
        )
    limit = request.max_completion_tokens or request.max_tokens
    for name in ("max_completion_tokens", "max_tokens"):
        check_range(name, getattr(request, name), 1, MOST_TOKENS)
    check_range("temperature", request.temperature, 0, 2)
    check_range("top_p", request.top_p, 0, 1)
    return Sampling(
        max_output_tokens=limit,
        temperature=None if request.temperature is None else min(request.temperature, 1.0),
        top_p=request.top_p,
        stop=tuple(text for text in stop if text.strip()),
        effort=effort_of(request) or (request.claude_options or ClaudeOptions()).effort,
    )


def _unsupported(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="unsupported_value")
