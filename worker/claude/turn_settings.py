"""What a request changes of a running CLI for one turn: flag settings, put in place before the prompt."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.runs import RunRequest
from worker.claude.client_tools import ClientTools
from worker.claude.output_schema import for_model

NONE: dict[str, Any] = {"env": {"CLAUDE_CODE_EXTRA_BODY": ""}}
"""The settings of a process that has been told nothing."""


def turn_settings(request: RunRequest, tools: ClientTools) -> dict[str, Any]:
    """The `settings` of the control request `apply_flag_settings` (CLI 2.1) for this turn."""
    body = extra_body(request, tools)
    return {"env": {"CLAUDE_CODE_EXTRA_BODY": msgspec.json.encode(body).decode() if body else ""}}


def extra_body(request: RunRequest, tools: ClientTools) -> dict[str, object]:
    """What the CLI merges over each of its calls to the Messages API, as CLAUDE_CODE_EXTRA_BODY (CLI 2.1)."""
    sampling = request.sampling
    asked = {
        "max_tokens": sampling.max_output_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop_sequences": list(sampling.stop) or None,
        "tool_choice": _tool_choice(request, tools),
        "output_config": _output_config(request),
    }
    body: dict[str, object] = {name: value for name, value in asked.items() if value is not None}
    is_forced = request.tools and request.tool_choice.mode in {"required", "named"}
    if (
        sampling.temperature is not None
        or sampling.top_p is not None
        or is_forced
        or sampling.effort == "none"
    ):
        body["thinking"] = {"type": "disabled"}  # the Messages API refuses any of these beside thinking
    return body


def _tool_choice(request: RunRequest, tools: ClientTools) -> dict[str, object] | None:
    """Anthropic's word for the client's choice.

    With `none` the agent's own tools stay; a call of the client's is denied when it comes.
    """
    choice = request.tool_choice
    alone = {} if choice.is_parallel else {"disable_parallel_tool_use": True}
    match choice.mode:
        case _ if not request.tools:
            return None
        case "named":
            return {"type": "tool", "name": tools.shown(choice.name), **alone}
        case "required" if len(request.tools) == 1:
            return {"type": "tool", "name": tools.shown(request.tools[0].name), **alone}
        case "required":
            return {"type": "any", **alone}
        case "none" if request.options.tools == ():
            return {"type": "none"}
        case _:
            return {"type": "auto", **alone} if alone else None


def _output_config(request: RunRequest) -> dict[str, object] | None:
    config: dict[str, object] = {}
    if request.sampling.effort not in {None, "none"}:
        config["effort"] = request.sampling.effort
    if request.output is not None and request.output.schema is not None:
        config["format"] = {"type": "json_schema", "schema": for_model(request.output.schema)}
    return config or None
