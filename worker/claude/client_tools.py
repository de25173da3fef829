"""The client's functions as tools of the model: an MCP server whose other side is the worker itself.

The CLI lists them over its control channel. It never runs one: a hook defers every call (see
`worker.claude.calls`), the turn ends, and the client's next request brings the results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from shared.content import ToolUsePart, Turn
from shared.runs import ClientTool, RunRequest
from worker.claude.lines import HookInput

SERVER = "client"
HOOK = "client-tools"
"""The id under which the CLI calls the hook."""
_HOOK_S = 3600
"""A hook waits for the end of the model's message, whose other calls may be long."""
_LONGEST_DESCRIPTION = 4000
"""The CLI (2.1) cuts descriptions beyond 4096 characters."""
_LONGEST_NAME = 128
"""Of a tool, for the Messages API."""
_METHOD_NOT_FOUND = -32601

BUILT_IN = frozenset(
    {
        "Agent", "AskUserQuestion", "Bash", "BashOutput", "CronCreate", "CronDelete", "CronList",
        "DeferredToolPlaceholder", "Edit", "EnterPlanMode", "EnterWorktree", "ExitPlanMode", "ExitWorktree",
        "Glob", "Grep", "KillShell", "LSP", "ListAgents", "ListMcpResourcesTool", "Monitor", "MultiEdit",
        "NotebookEdit", "NotebookRead", "PowerShell", "Read", "ReadMcpResourceTool", "ReportFindings",
        "ScheduleWakeup", "SendMessage", "Skill", "SlashCommand", "StructuredOutput", "Task", "TaskCreate",
        "TaskGet", "TaskList", "TaskOutput", "TaskStop", "TaskUpdate", "TeamCreate", "TeamDelete",
        "TodoWrite", "ToolSearch", "WebFetch", "WebSearch", "Workflow", "Write",
    }
)  # fmt: skip
"""The CLI's own tools (2.1): where both are there, its own hides a client's of the same name."""


class ClientTools:
    """The client tools of one process.

    With `are_alone` the CLI's own tools are switched off; with `asks` it asks before each of its own, too.
    """

    def __init__(
        self, tools: Sequence[ClientTool] = (), *, are_alone: bool = False, asks: bool = False
    ) -> None:
        self.tools = tuple(tools)
        self._asks = asks or bool(tools)
        self._shown = _names([tool.name for tool in tools], are_alone=are_alone)
        self._by_shown = {self._shown[tool.name]: tool for tool in tools}

    @classmethod
    def of(cls, request: RunRequest) -> ClientTools:
        """The client tools that a request brings."""
        asks = request.max_tool_calls is not None
        return cls(request.tools, are_alone=request.options.tools == (), asks=asks)

    def serve(self, request: RunRequest) -> bool:
        """Whether a process that has these tools can take the turn of `request`."""
        return self.tools == request.tools and (self._asks or request.max_tool_calls is None)

    def find(self, shown: str) -> ClientTool | None:
        """The client's tool behind a name that the model used."""
        return self._by_shown.get(shown)

    def shown(self, name: str) -> str:
        """The name under which the model knows the client's tool `name`."""
        return self._shown.get(name, name)

    def in_models_words(self, turns: Sequence[Turn]) -> Sequence[Turn]:
        """The turns of a history with its calls under the names that the model knows."""
        if all(name == shown for name, shown in self._shown.items()):
            return turns
        return [
            msgspec.structs.replace(
                turn,
                parts=tuple(
                    msgspec.structs.replace(part, name=self.shown(part.name))
                    if isinstance(part, ToolUsePart)
                    else part
                    for part in turn.parts
                ),
            )
            for turn in turns
        ]

    @property
    def initialize(self) -> dict[str, Any]:
        """What the CLI's `initialize` must say to have these tools; nothing when there are none."""
        if not self._asks:
            return {}
        hook = {"matcher": None, "hookCallbackIds": [HOOK], "timeout": _HOOK_S}
        servers = {"sdkMcpServers": [SERVER]} if self.tools else {}
        return {**servers, "hooks": {"PreToolUse": [hook]}}

    @property
    def overflow(self) -> str:
        """What did not fit into descriptions, to be said in the system prompt."""
        return "\n\n".join(
            f"The description of the tool {self._shown[tool.name]} goes on:"
            f"\n{tool.description[_LONGEST_DESCRIPTION:]}"
            for tool in self.tools
            if len(tool.description) > _LONGEST_DESCRIPTION
        )

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """The answer to one JSON-RPC message of the CLI's MCP client (MCP 2025-11-25)."""
        match message.get("method"):
            case "initialize":
                asked = message.get("params", {}).get("protocolVersion", "2025-11-25")
                result: dict[str, Any] = {
                    "protocolVersion": asked,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": SERVER, "version": "1"},
                }
            case "tools/list":
                result = {"tools": [self._listed(tool) for tool in self.tools]}
            case "tools/call":  # the hook defers every call before it comes to this
                said = {"type": "text", "text": "This tool is not run here."}
                result = {"content": [said], "isError": True}
            case "ping" | "notifications/initialized" | "notifications/cancelled":
                result = {}
            case method:
                error = {"code": _METHOD_NOT_FOUND, "message": f"There is no {method} here."}
                return {"jsonrpc": "2.0", "id": message.get("id"), "error": error}
        return {"jsonrpc": "2.0", "id": message.get("id"), "result": result}

    def _listed(self, tool: ClientTool) -> dict[str, Any]:
        return {
            "name": self._shown[tool.name],
            "description": tool.description[:_LONGEST_DESCRIPTION],
            "inputSchema": {"type": "object", "properties": {}, **tool.parameters},
            # Else the CLI may hide it behind its search for tools.
            "_meta": {"anthropic/alwaysLoad": True},
        }


def is_clients(call: HookInput) -> bool:
    """Whether the CLI asks about one of the client's tools."""
    server = call.mcp_server or {}
    return server.get("name") == SERVER and server.get("source") == "sdk"


def _is_taken(name: str, *, are_alone: bool) -> bool:
    return name.startswith("mcp__") or (not are_alone and name in BUILT_IN)


def _names(given: Sequence[str], *, are_alone: bool) -> dict[str, str]:
    """A name for each of the client's tools in the model's list, none twice: its own, where that is free."""
    shown = {name: name for name in given if not _is_taken(name, are_alone=are_alone)}
    for name in given:
        number = 0
        while name not in shown:
            alias = f"{SERVER}{number or ''}_{name}"[:_LONGEST_NAME]
            number += 1
            if alias not in shown.values():
                shown[name] = alias
    return shown
