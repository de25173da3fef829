"""`tools`, `tool_choice` and `response_format` of a request into what a run knows. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from api.client_tools import among, require_distinct, require_name, require_object, root_of
from api.errors import ApiError
from api.openai.wire import (
    Allowed,
    AllowedChoice,
    ChatRequest,
    Custom,
    CustomChoice,
    CustomTool,
    Function,
    FunctionChoice,
    JsonObjectFormat,
    JsonSchemaFormat,
    Named,
)
from shared.runs import ClientTool, JsonOutput, ToolChoice

_INPUT = "input"
_JSON_ONLY = (
    "Answer with one JSON object and nothing else: no words before or after it, no Markdown fence around it."
)


class Tools(NamedTuple):
    """The tools of a request, and how to say what the model makes of them."""

    tools: tuple[ClientTool, ...]
    choice: ToolChoice
    custom: frozenset[str]
    """Names of tools that take any text."""
    is_legacy: bool
    """Whether the client used `functions`, and expects `function_call`."""


class Output(NamedTuple):
    """What the answer must be, and what to tell the model of it in its instructions."""

    output: JsonOutput | None
    instruction: str


def tools_of(request: ChatRequest) -> Tools:
    """Read `tools` or the older `functions`; raises `ApiError` 400 for what cannot be honoured."""
    is_legacy = not request.tools and bool(request.functions)
    tools: list[ClientTool] = []
    custom: set[str] = set()
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomTool):
            custom.add(tool.custom.name)
            tools.append(_custom(tool.custom, f"tools[{index}].custom"))
        else:
            tools.append(_function(tool.function, f"tools[{index}].function"))
    if is_legacy:
        tools = [_function(one, f"functions[{index}]") for index, one in enumerate(request.functions or ())]
    require_distinct(tools, "functions" if is_legacy else "tools")
    choice = _legacy_choice(request) if is_legacy else _choice(request)
    if isinstance(request.tool_choice, AllowedChoice) and not is_legacy:
        tools = _allowed(tools, request.tool_choice.allowed_tools)
    choice = among(tools, choice, "function_call" if is_legacy else "tool_choice")
    return Tools(tuple(tools), choice, frozenset(custom), is_legacy)


def output_of(request: ChatRequest) -> Output:
    """Read `response_format`; raises `ApiError` 400 for a schema that is none."""
    match request.response_format:
        case JsonObjectFormat():
            return Output(JsonOutput(), _JSON_ONLY)
        case JsonSchemaFormat(json_schema=asked):
            require_name(asked.name, "response_format.json_schema.name")
            schema = asked.schema or {}
            param = "response_format.json_schema.schema"
            said = f"Invalid schema for response_format '{asked.name}'"
            require_object(schema, param, said, "invalid_json_schema")
            return Output(JsonOutput(schema=root_of(schema)), asked.description or "")
    return Output(None, "")


def custom_input(arguments: dict[str, Any]) -> str:
    """The text that a custom tool was called with."""
    value = arguments.get(_INPUT, "")
    return value if isinstance(value, str) else ""


def custom_arguments(text: str) -> dict[str, Any]:
    """The arguments by which the model calls a custom tool."""
    return {_INPUT: text}


def _function(function: Function, where: str) -> ClientTool:
    require_name(function.name, f"{where}.name")
    schema = function.parameters or {}
    said = f"Invalid schema for function '{function.name}'"
    require_object(schema, f"{where}.parameters", said, "invalid_function_parameters")
    return ClientTool(
        name=function.name,
        description=function.description or "",
        parameters=root_of(schema),
        strict=bool(function.strict),
    )


def _custom(tool: Custom, where: str) -> ClientTool:
    require_name(tool.name, f"{where}.name")
    if (tool.format or {}).get("type", "text") != "text":
        raise ApiError(400, "A grammar cannot be kept to.", param=f"{where}.format", code="unsupported_value")
    parameters = {"type": "object", "properties": {_INPUT: {"type": "string"}}, "required": [_INPUT]}
    return ClientTool(name=tool.name, description=tool.description or "", parameters=parameters)


def _choice(request: ChatRequest) -> ToolChoice:
    is_parallel = request.parallel_tool_calls is not False
    match request.tool_choice:
        case None | "auto":
            return ToolChoice(is_parallel=is_parallel)
        case "none":
            return ToolChoice(mode="none", is_parallel=is_parallel)
        case "required" | "any":
            return ToolChoice(mode="required", is_parallel=is_parallel)
        case FunctionChoice(function=Named(name=name)) | CustomChoice(custom=Named(name=name)):
            return ToolChoice(mode="named", name=name, is_parallel=is_parallel)
        case AllowedChoice(allowed_tools=Allowed(mode=mode)):
            return ToolChoice(mode=mode, is_parallel=is_parallel)
    said = "'tool_choice' must be 'auto', 'none', 'required' or an object that names a tool."
    raise ApiError(400, said, param="tool_choice", code="invalid_value")


def _legacy_choice(request: ChatRequest) -> ToolChoice:
    match request.function_call:
        case None | "auto":
            return ToolChoice(is_parallel=False)
        case "none":
            return ToolChoice(mode="none", is_parallel=False)
        case Named(name=name):
            return ToolChoice(mode="named", name=name, is_parallel=False)
    said = "'function_call' must be 'auto', 'none' or an object with a name."
    raise ApiError(400, said, param="function_call", code="invalid_value")


def _allowed(tools: Sequence[ClientTool], allowed: Allowed) -> list[ClientTool]:
    names = {(one.function or one.custom or Named("")).name for one in allowed.tools}
    if missing := names - {tool.name for tool in tools}:
        said = f"'tool_choice' allows {min(missing)!r}, which is not among the tools."
        raise ApiError(400, said, param="tool_choice", code="invalid_value")
    return [tool for tool in tools if tool.name in names]
