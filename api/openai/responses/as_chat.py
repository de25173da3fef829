"""A response's request in the words of a chat request, and what is wrong with it in its own. Pure, no I/O.

A response's items say what chat messages say, so both ways in share what stands behind
(`api/openai/translate.py`). Each message remembers the item that it came from: an error names that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from api.backline import DetachableOptions
from api.decode import converted
from api.errors import ApiError
from api.openai.responses.items import Placed
from api.openai.responses.tools import ChatTools, flat_name
from api.openai.responses.wire import (
    CustomCallItem,
    CustomOutputItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputAudio,
    InputFile,
    InputImage,
    InputText,
    MessageItem,
    OutputText,
    Part,
    ReasoningOptions,
    Refusal,
    ResponsesRequest,
    TextOptions,
)
from api.openai.wire import (
    AssistantMessage,
    AudioContent,
    ChatRequest,
    CustomCall,
    DeveloperMessage,
    FileContent,
    FileSource,
    FunctionCall,
    ImageContent,
    ImageUrl,
    JsonObjectFormat,
    JsonSchemaFormat,
    Message,
    OutputSchema,
    RefusalContent,
    SystemMessage,
    TextContent,
    TextFormat,
    ToolCall,
    ToolMessage,
    UserMessage,
)

_PLACE = re.compile(r"(messages|tools)\[(\d+)\]")
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "conversation_id": "conversation",
}
_WITHIN = (
    (".image_url.url", ".image_url"),
    (".image_url.file_id", ".file_id"),
    (".file.", "."),
    (".tool_calls[0].function.arguments", ".arguments"),
    (".function.", "."),
    (".custom.", "."),
    (".tool_call_id", ".call_id"),
)
_UserContent = TextContent | ImageContent | AudioContent | FileContent


class Places:
    """Where each chat message and tool stands in the request; `said_in` has errors say so."""

    def __init__(self, messages: Sequence[str], tools: Sequence[str]) -> None:
        self._wheres = {"messages": messages, "tools": tools}

    @contextmanager
    def said_in(self) -> Iterator[None]:
        """Have an `ApiError` name the fields of a response's request."""
        try:
            yield
        except ApiError as error:
            if error.param is not None:
                place = self.of(error.param)
                error.message = error.message.replace(f"'{error.param}'", f"'{place}'")
                error.param = place
            raise

    def of(self, param: str) -> str:
        """What a response calls a chat request's field."""
        match = _PLACE.match(param)
        if match is None:
            head = next((name for name in _NAMES if param == name or param.startswith(f"{name}.")), None)
            return param if head is None else _NAMES[head] + param.removeprefix(head)
        rest = param[match.end() :]
        for inner, outer in _WITHIN:
            rest = rest.replace(inner, outer)
        return self._wheres[match[1]][int(match[2])] + rest


def as_chat(
    request: ResponsesRequest, items: Sequence[Placed], tools: ChatTools
) -> tuple[ChatRequest, Places]:
    """The request with `items` as its messages; raises `ApiError` 400."""
    told: list[tuple[Message, str]] = []
    if request.instructions:
        told.append((SystemMessage(content=request.instructions), "instructions"))
    shown: list[tuple[Message, str]] = []
    for placed in items:
        if not isinstance(placed.item, FunctionOutputItem | CustomOutputItem):
            told, shown = told + shown, []
        message, images = _message(placed)
        told += [(message, placed.where)] if message is not None else []
        shown += [(images, placed.where)] if images is not None else []
    told += shown
    options = request.reasoning or ReasoningOptions()
    chat = ChatRequest(
        model=request.model,
        messages=[message for message, _ in told],
        stream=request.stream,
        max_completion_tokens=request.max_output_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        tools=list(tools.tools),
        tool_choice=tools.choice,
        parallel_tool_calls=request.parallel_tool_calls,
        response_format=_format(request.text),
        reasoning_effort=options.effort,
        top_logprobs=request.top_logprobs,
        metadata=request.metadata,
        service_tier=request.service_tier,
        conversation_id=request.conversation_id,
        project_id=request.project_id,
        claude_options=request.claude_options,
        backline=DetachableOptions(
            on_worker_loss=request.backline.on_worker_loss,
            fallback=request.backline.fallback,
            cache=request.backline.cache,
        )
        if request.backline is not None
        else None,
    )
    return chat, Places([where for _, where in told], tools.wheres)


def require_answers(items: Sequence[Placed], *, is_known: bool) -> None:
    """Every call must have its output, and every output its call: raises `ApiError` 400 in OpenAI's words.

    `is_known` says that a stored conversation may have the calls.
    """
    calls = [one.item.call_id for one in items if isinstance(one.item, FunctionCallItem | CustomCallItem)]
    answers = [
        (one.item.call_id, one.where)
        for one in items
        if isinstance(one.item, FunctionOutputItem | CustomOutputItem)
    ]
    if missing := set(calls) - {call_id for call_id, _ in answers}:
        said = f"No tool output found for function call {min(missing)[:100]}."
        raise ApiError(400, said, param="input", code="invalid_value")
    if is_known:
        return
    for call_id, where in answers:
        if call_id not in calls:
            said = f"No tool call found for function call output with call_id {call_id[:100]}."
            raise ApiError(400, said, param=f"{where}.call_id", code="invalid_value")


def _message(placed: Placed) -> tuple[Message | None, UserMessage | None]:
    """The item as a message; images of a tool's output stand in one of the user's, behind all outputs."""
    message: Message | None = None
    match placed.item:
        case MessageItem() as item:
            message = _said(item, placed.where)
        case FunctionCallItem(call_id=call_id, name=name, arguments=arguments, namespace=namespace):
            function = FunctionCall(name=flat_name(name, namespace), arguments=arguments)
            message = AssistantMessage(tool_calls=[ToolCall(id=call_id, function=function)])
        case CustomCallItem(call_id=call_id, name=name, input=text, namespace=namespace):
            custom = CustomCall(name=flat_name(name, namespace), input=text)
            message = AssistantMessage(tool_calls=[ToolCall(id=call_id, custom=custom, type="custom")])
        case FunctionOutputItem() | CustomOutputItem() as item:
            return _output(item, placed.where)
    return message, None


def _said(item: MessageItem, where: str) -> Message:
    match item.role:
        case "user":
            return UserMessage(content=_user_content(item.content, where))
        case "assistant":
            return AssistantMessage(content=_assistant_content(item.content, where))
        case "system":
            return SystemMessage(content=_plain(item.content, where))
        case "developer":
            return DeveloperMessage(content=_plain(item.content, where))


def _output(
    item: FunctionOutputItem | CustomOutputItem, where: str
) -> tuple[ToolMessage, UserMessage | None]:
    if isinstance(item.output, str):
        return ToolMessage(content=item.output, tool_call_id=item.call_id), None
    texts = [TextContent(part.text) for part in item.output if isinstance(part, InputText)]
    media = [
        _media(part, f"{where}.output[{index}]")
        for index, part in enumerate(item.output)
        if not isinstance(part, InputText)
    ]
    message = ToolMessage(content=texts, tool_call_id=item.call_id)
    return message, UserMessage(content=[*media]) if media else None


def _user_content(content: str | list[Part], where: str) -> str | list[_UserContent]:
    if isinstance(content, str):
        return content
    return [_user_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _user_part(part: Part, where: str) -> _UserContent:
    match part:
        case InputText(text=text) | OutputText(text=text):
            return TextContent(text)
        case Refusal(refusal=text):
            return TextContent(text)
        case InputAudio():
            return AudioContent()
        case InputImage() | InputFile():
            return _media(part, where)


def _media(part: InputImage | InputFile, where: str) -> ImageContent | FileContent:
    if isinstance(part, InputFile):
        return FileContent(
            FileSource(
                file_data=part.file_data or part.file_url, filename=part.filename, file_id=part.file_id
            )
        )
    if part.image_url is not None:
        return ImageContent(ImageUrl(part.image_url))
    if part.file_id is not None:
        return ImageContent(ImageUrl("", file_id=part.file_id))
    param = f"{where}.image_url"
    raise ApiError(
        400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def _assistant_content(content: str | list[Part], where: str) -> str | list[TextContent | RefusalContent]:
    if isinstance(content, str):
        return content
    return [_assistant_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _assistant_part(part: Part, where: str) -> TextContent | RefusalContent:
    match part:
        case InputText(text=text) | OutputText(text=text):
            return TextContent(text)
        case Refusal(refusal=text):
            return RefusalContent(text)
    raise _not_here(where)


def _plain(content: str | list[Part], where: str) -> str | list[TextContent]:
    if isinstance(content, str):
        return content
    return [_plain_part(part, f"{where}.content[{index}]") for index, part in enumerate(content)]


def _plain_part(part: Part, where: str) -> TextContent:
    if isinstance(part, InputText | OutputText):
        return TextContent(part.text)
    raise _not_here(where)


def _not_here(where: str) -> ApiError:
    said = f"Invalid '{where}.type': a message of this role holds text."
    return ApiError(400, said, param=f"{where}.type", code="invalid_value")


def _format(text: TextOptions | None) -> TextFormat | JsonObjectFormat | JsonSchemaFormat | None:
    given = (text or TextOptions()).format
    match given:
        case None:
            return None
        case {"type": "text"}:
            return TextFormat()
        case {"type": "json_object"}:
            return JsonObjectFormat()
        case {"type": "json_schema"}:
            schema: OutputSchema = converted(given, OutputSchema, "text.format")
            return JsonSchemaFormat(schema)
    said = "'text.format.type' must be 'text', 'json_object' or 'json_schema'."
    raise ApiError(400, said, param="text.format.type", code="invalid_value")
