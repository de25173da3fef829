"""`tools` and `tool_choice` of a response into those of a chat request. Pure, no I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from api.decode import converted
from api.errors import ApiError
from api.openai.responses.open_items import CallName
from api.openai.responses.wire import ResponsesRequest
from api.openai.wire import (
    Allowed,
    AllowedChoice,
    AllowedTool,
    Custom,
    CustomChoice,
    CustomTool,
    Function,
    FunctionChoice,
    FunctionTool,
    Named,
)

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SEARCHES = ("web_search", "web_search_preview")
_Tool = FunctionTool | CustomTool
_ChatChoice = str | FunctionChoice | CustomChoice | AllowedChoice | None


class ChatTools(NamedTuple):
    """The tools under flat names, the place and the meaning of each, and the kinds that are left out."""

    tools: list[_Tool]
    wheres: list[str]
    choice: _ChatChoice
    names: dict[str, CallName]
    ignored: list[str]


def chat_tools(request: ResponsesRequest) -> ChatTools:
    """Read `tools` and `tool_choice`; raises `ApiError` 400 for what cannot be honoured."""
    read = _Reading()
    for index, tool in enumerate(request.tools or ()):
        where, kind = f"tools[{index}]", tool.get("type")
        if kind == "namespace":
            read.namespace(tool, where)
        elif kind in {"function", "custom"}:
            read.tool(tool, where)
        elif _can_be_left_out(kind, request):
            read.ignored.append(f"tools.{kind}")
        else:
            raise _unsupported(where, kind)
    choice = _choice(request.tool_choice, read.names)
    return ChatTools(read.tools, read.wheres, choice, read.names, read.ignored)


def flat_name(name: str, namespace: str | None) -> str:
    """The name by which the model knows a tool: of a namespace's tool, both names in one."""
    if not namespace:
        return name
    flat = f"{namespace.removesuffix('__')}__{name}"
    if _NAME.fullmatch(flat):
        return flat
    digest = hashlib.sha256(flat.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^a-zA-Z0-9_-]', '_', flat)[:55]}_{digest}"


def echoed_tools(request: ResponsesRequest) -> list[dict[str, Any]]:
    """The tools as a response repeats them."""
    return [_echoed(tool) for tool in request.tools or ()]


class _Reading:
    """Tools as they are read, each noted under its flat name."""

    def __init__(self) -> None:
        self.tools: list[_Tool] = []
        self.wheres: list[str] = []
        self.names: dict[str, CallName] = {}
        self.ignored: list[str] = []

    def namespace(self, space: Mapping[str, Any], where: str) -> None:
        inner = converted(space.get("tools") or [], list[dict[str, Any]], f"{where}.tools")
        name = converted(space.get("name"), str, f"{where}.name")
        for index, tool in enumerate(inner):
            if tool.get("type") not in {"function", "custom"}:
                raise _unsupported(f"{where}.tools[{index}]", tool.get("type"))
            self.tool(tool, f"{where}.tools[{index}]", name)

    def tool(self, tool: Mapping[str, Any], where: str, namespace: str | None = None) -> None:
        name = converted(tool.get("name"), str, f"{where}.name")
        flat = flat_name(name, namespace)
        is_custom = tool["type"] == "custom"
        self.names[flat] = CallName(name, namespace, is_custom)
        self.wheres.append(where)
        flattened = {**tool, "name": flat}
        if is_custom:
            self.tools.append(CustomTool(converted(flattened, Custom, where)))
        else:
            self.tools.append(FunctionTool(converted(flattened, Function, where)))


def _can_be_left_out(kind: object, request: ResponsesRequest) -> bool:
    """The agent searches the Web if it may; without the other tools it can do as long as it may choose."""
    if not isinstance(kind, str) or kind == "mcp":
        return False
    return kind.startswith(_SEARCHES) or request.tool_choice in {None, "auto", "none"}


def _choice(given: str | dict[str, Any] | None, names: Mapping[str, CallName]) -> _ChatChoice:
    match given:
        case None | str():
            return given
        case {"type": "function" | "custom", "name": str()}:
            return _named(given, names)
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": allowed}:
            functions = [
                AllowedTool(function=Named(_flat(tool, names)))
                for tool in converted(allowed, list[dict[str, Any]], "tool_choice.tools")
                if tool.get("type") in {"function", "custom"}
            ]
            return AllowedChoice(Allowed(mode=mode, tools=functions))
    said = "'tool_choice' must be 'auto', 'none', 'required', or name a function or custom tool."
    raise ApiError(400, said, param="tool_choice", code="unsupported_value")


def _named(given: Mapping[str, Any], names: Mapping[str, CallName]) -> FunctionChoice | CustomChoice:
    flat = _flat(given, names)
    return CustomChoice(Named(flat)) if given["type"] == "custom" else FunctionChoice(Named(flat))


def _flat(tool: Mapping[str, Any], names: Mapping[str, CallName]) -> str:
    """The flat name of a tool that a choice names, with its namespace or, if that is plain, without."""
    name, namespace = str(tool.get("name", "")), tool.get("namespace")
    flat = flat_name(name, namespace if isinstance(namespace, str) else None)
    found = [known for known, called in names.items() if called.name == name]
    return found[0] if flat not in names and len(found) == 1 else flat


def _echoed(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return dict(tool)
    defaults = {"description": None, "parameters": None, "strict": False}
    return {**defaults, **tool, "strict": bool(tool.get("strict"))}


def _unsupported(where: str, kind: object) -> ApiError:
    said = f"Tools of the type {str(kind)[:50]!r} are not supported."
    if kind == "mcp":
        said += " 'claude_options.mcp_config' brings MCP servers, where the operator allows it."
    return ApiError(400, said, param=f"{where}.type", code="unsupported_value")
