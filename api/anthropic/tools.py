"""`tools`, `tool_choice` and the asked-for output of a Messages request into what a run knows. Pure."""

from __future__ import annotations

import re

from api.anthropic.wire import (
    AnyChoice,
    AutoChoice,
    CountRequest,
    JsonSchemaFormat,
    MessagesRequest,
    NamedChoice,
    NoneChoice,
    Tool,
)
from api.client_tools import among, require_distinct, require_name, require_object, root_of
from api.errors import ApiError
from shared.runs import ClientTool, JsonOutput, ToolChoice

_SERVERS = re.compile(r"(?:web_search|web_fetch|code_execution|tool_search_tool_\w+?)_\d{8}|mcp_toolset")
"""Tools that Anthropic's servers run: the agent has its own."""


def tools_of(request: CountRequest) -> tuple[tuple[ClientTool, ...], ToolChoice]:
    """The client's own tools, and which of them to call; raises `ApiError` 400 for what it cannot have."""
    tools = [
        _client_tool(tool, f"tools[{index}]")
        for index, tool in enumerate(request.tools or ())
        if not _is_servers(tool)
    ]
    require_distinct(tools, "tools")
    return tuple(tools), among(tools, _choice(request), "tool_choice")


def servers_tools(request: CountRequest) -> list[str]:
    """Places of tools that Anthropic's servers would run, and nobody here does."""
    return [f"tools[{index}]" for index, tool in enumerate(request.tools or ()) if _is_servers(tool)]


def output_of(request: MessagesRequest) -> JsonOutput | None:
    """The schema that the answer must fit; raises `ApiError` 400 for one that is none."""
    config = request.output_config
    asked = (config.format if config is not None else None) or request.output_format
    if not isinstance(asked, JsonSchemaFormat):
        return None
    param = "output_format.schema" if asked is request.output_format else "output_config.format.schema"
    require_object(asked.schema, param, f"Invalid '{param}'", "invalid_json_schema")
    return JsonOutput(schema=root_of(asked.schema))


def _is_servers(tool: Tool) -> bool:
    return tool.type is not None and _SERVERS.fullmatch(tool.type) is not None


def _client_tool(tool: Tool, where: str) -> ClientTool:
    if tool.type not in {None, "custom"}:
        said = f"'{where}': the type {tool.type!r} is not known here; give a tool with an 'input_schema'."
        raise ApiError(400, said, param=f"{where}.type", code="unsupported_value")
    require_name(tool.name, f"{where}.name")
    if tool.input_schema is None:
        param = f"{where}.input_schema"
        said = f"Missing required parameter: '{param}'."
        raise ApiError(400, said, param=param, code="missing_required_parameter")
    param = f"{where}.input_schema"
    require_object(tool.input_schema, param, f"Invalid '{param}'", "invalid_function_parameters")
    return ClientTool(
        name=tool.name,
        description=tool.description or "",
        parameters=root_of(tool.input_schema),
        strict=bool(tool.strict),
    )


def _choice(request: CountRequest) -> ToolChoice:
    match request.tool_choice:
        case NamedChoice(name=name, disable_parallel_tool_use=alone):
            return ToolChoice(mode="named", name=name, is_parallel=not alone)
        case AnyChoice(disable_parallel_tool_use=alone):
            return ToolChoice(mode="required", is_parallel=not alone)
        case AutoChoice(disable_parallel_tool_use=alone):
            return ToolChoice(is_parallel=not alone)
        case NoneChoice():
            return ToolChoice(mode="none")
    return ToolChoice()
