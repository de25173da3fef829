"""A Messages request into a `RunRequest`: pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from api.anthropic.media import NOTHING, Loaded, parts_of
from api.anthropic.tools import output_of, servers_tools, tools_of
from api.anthropic.wire import (
    AssistantMessage,
    Message,
    MessagesRequest,
    SystemMessage,
    TextBlock,
    Thinking,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from api.backline import may_cache, may_fall_back
from api.claude_options import ClaudeOptions
from api.errors import ApiError
from api.numbers import check_range
from api.places import Place
from api.turns import TurnsBuilder, call_id, unanswered
from shared.content import Part, TextPart, ToolResultPart, ToolUsePart, Turn
from shared.runs import Effort, LaunchOptions, RunRequest, Sampling

_MOST_STOPS = 16
_LONGEST_STOP = 256
_LITTLE_THOUGHT = 4096
_MUCH_THOUGHT = 16_384
_NO_OPTIONS = LaunchOptions()


def translate(
    request: MessagesRequest,
    place: Place,
    *,
    tenant: str,
    request_id: str,
    history_limit: int,
    options: LaunchOptions = _NO_OPTIONS,
    media: Loaded = NOTHING,
) -> RunRequest:
    """Translate a request; raises `ApiError` 400 for what cannot be honoured.

    `media` has the images and documents of the messages from `first_needed` on.
    When `place` is in a conversation that has begun, that is the history, and the request's is not.
    """
    if len(request.messages) > history_limit:
        said = f"'messages' may have at most {history_limit} entries; this has {len(request.messages)}."
        raise ApiError(400, said, param="messages", code="array_above_max_length")
    turns, system = _conversation(request, place, media)
    tools, choice = tools_of(request)
    run = RunRequest(
        agent=place.choice.agent,
        prompt=turns[-1].parts,
        history=tuple(turns[:-1]),
        model=place.choice.claude_model,
        revision=place.choice.revision,
        system=system or None,
        sampling=_sampling(request),
        tenant=tenant,
        request_id=request_id,
        tools=tools,
        tool_choice=choice,
        output=output_of(request),
        options=options,
        on_worker_loss=request.backline.on_worker_loss if request.backline is not None else None,
        may_fall_back=may_fall_back(request.backline),
        may_cache=may_cache(request.backline),
        tier="priority" if request.service_tier == "auto" else "default",
    )
    return run if place.thread is None else place.thread.go_on(run)


def ignored_fields(request: MessagesRequest, unknown: Sequence[str]) -> list[str]:
    """What was sent and has no effect, sorted."""
    return sorted([*unknown, *servers_tools(request)])


def shows_thinking(request: MessagesRequest) -> bool:
    """Whether the answer is to have the model's thinking in it."""
    if request.backline is not None and "thinking" in (request.backline.show or ()):
        return True
    thinking = request.thinking
    return thinking is not None and thinking.type != "disabled" and thinking.display != "omitted"


def first_needed(messages: Sequence[Message], place: Place) -> int:
    """The number of the first message that counts: a conversation that has begun has those before it."""
    if not place.has_begun:
        return 0
    answers = [index for index, message in enumerate(messages) if isinstance(message, AssistantMessage)]
    return answers[-1] + 1 if answers else 0


def _conversation(request: MessagesRequest, place: Place, media: Loaded) -> tuple[list[Turn], str]:
    """Alternating turns that end with the user's, and all instructions, from the first needed message on."""
    start = first_needed(request.messages, place)
    built = TurnsBuilder()
    system = [_plain(request.system)] if request.system is not None else []
    for index, message in enumerate(request.messages[start:], start):
        where = f"messages[{index}]"
        match message:
            case SystemMessage(content=content):
                system.append(_plain(content))
            case AssistantMessage():
                built.add("assistant", _assistant_parts(message))
            case UserMessage():
                _add_user(built, message, where, media, is_known=place.has_begun)
    turns = built.turns()
    if not turns or turns[-1].role != "user":
        said = "'messages' must end with something of the user's: the agent has nothing to answer."
        raise ApiError(400, said, param="messages", code="invalid_value")
    if missing := unanswered(turns):
        said = "Each 'tool_use' block must have its 'tool_result' block in the next message; these have none"
        said = f"{said}: {', '.join(missing)[:200]}."
        raise ApiError(400, said, param="messages", code="invalid_value")
    return turns, "\n\n".join(text for text in system if text)


def _assistant_parts(message: AssistantMessage) -> list[Part]:
    """The text, then the calls: so the session knows the answer, whatever blocks it was shown in.

    Thinking is left out, since the session holds its own.
    """
    content = [TextBlock(message.content)] if isinstance(message.content, str) else message.content
    text = "".join(block.text for block in content if isinstance(block, TextBlock))
    calls = [
        ToolUsePart(id=call_id(block.id), name=block.name, input=block.input)
        for block in content
        if isinstance(block, ToolUseBlock)
    ]
    return [*([TextPart(text)] if text.strip() else ()), *calls]


def _add_user(
    built: TurnsBuilder, message: UserMessage, where: str, media: Loaded, *, is_known: bool
) -> None:
    """Results of calls first, because the model wants them first; what they show follows them."""
    content = [TextBlock(message.content)] if isinstance(message.content, str) else message.content
    results: list[Part] = []
    shown: list[Part] = []
    for index, block in enumerate(content):
        place = f"{where}.content[{index}]"
        if not isinstance(block, ToolResultBlock):
            shown += parts_of(block, place, media)
            continue
        result, beside = _result(block, place, media)
        # A stored conversation's calls are the worker's to know.
        if not is_known and result.tool_use_id not in built.calls:
            said = f"'{place}.tool_use_id': no 'tool_use' block of the message before has this id."
            raise ApiError(400, said, param=f"{place}.tool_use_id", code="invalid_value")
        if not built.take_result(result.tool_use_id):
            said = f"'{place}.tool_use_id': each 'tool_use' must have a single result; this id has several."
            raise ApiError(400, said, param=f"{place}.tool_use_id", code="invalid_value")
        results.append(result)
        shown += beside
    built.add("user", [*results, *shown])


def _result(block: ToolResultBlock, where: str, media: Loaded) -> tuple[ToolResultPart, list[Part]]:
    """The result as text, and what of it is not text."""
    content = [TextBlock(block.content)] if isinstance(block.content, str) else block.content or []
    parts = [
        part for at, each in enumerate(content) for part in parts_of(each, f"{where}.content[{at}]", media)
    ]
    text = "\n".join(part.text for part in parts if isinstance(part, TextPart))
    result = ToolResultPart(call_id(block.tool_use_id), text, is_error=bool(block.is_error))
    return result, [part for part in parts if not isinstance(part, TextPart)]


def _plain(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n\n".join(block.text for block in content)


def _sampling(request: MessagesRequest) -> Sampling:
    stop = request.stop_sequences or []
    if len(stop) > _MOST_STOPS or any(len(text) > _LONGEST_STOP for text in stop):
        said = f"'stop_sequences' may have at most {_MOST_STOPS} entries of {_LONGEST_STOP} characters."
        raise ApiError(400, said, param="stop_sequences", code="invalid_value")
    check_range("temperature", request.temperature, 0, 1)
    check_range("top_p", request.top_p, 0, 1)
    return Sampling(
        max_output_tokens=request.max_tokens,
        # 1 is the API's own default, and asked for as such by many clients; a set one forbids thinking.
        temperature=None if request.temperature == 1 else request.temperature,
        top_p=None if request.top_p == 1 else request.top_p,
        stop=tuple(text for text in stop if text.strip()),
        effort=_effort(request),
    )


def _effort(request: MessagesRequest) -> Effort | None:
    if request.thinking is not None and request.thinking.type == "disabled":
        return "none"
    if request.output_config is not None and request.output_config.effort is not None:
        return request.output_config.effort
    return (request.claude_options or ClaudeOptions()).effort or _effort_of_budget(request.thinking)


def _effort_of_budget(thinking: Thinking | None) -> Effort | None:
    """The CLI takes an effort, and no count of tokens."""
    if thinking is None or thinking.type != "enabled" or thinking.budget_tokens is None:
        return None
    if thinking.budget_tokens <= _LITTLE_THOUGHT:
        return "low"
    return "medium" if thinking.budget_tokens <= _MUCH_THOUGHT else "high"
