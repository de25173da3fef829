"""`claude_options`: what a request may change of Claude Code, and what an operator must allow first."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from api.errors import ApiError
from shared.runs import Effort, LaunchOptions
from shared.settings import PERMISSION_MODES, Settings

_MOST_NAMES = 100
_LONGEST_PART = 255
"""Of a path, in bytes, on the file systems there are."""
_MOST_BYTES = 64 * 1024
"""The system bounds one word of a command at 128 KiB."""

PermissionMode = Literal["plan", "dontAsk", "default", "acceptEdits", "bypassPermissions"]
ToolName = Annotated[str, msgspec.Meta(pattern=r"^[^,\s-][^,\n\r\u0000]{0,200}(?!\n)$")]
Names = Annotated[list[ToolName], msgspec.Meta(max_length=_MOST_NAMES)]


class SubAgent(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A sub-agent that a request brings: words, and no more rights than the agent itself has."""

    description: Annotated[str, msgspec.Meta(min_length=1)]
    prompt: Annotated[str, msgspec.Meta(min_length=1)]
    tools: list[str] | None = None
    model: str | None = None


class ClaudeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Claude Code's own options.

    `session_id` goes on from a session, `continue` from the one used last with the agent. `tools` names the
    CLI's tools that are there at all (none: `[]`), `disallowed_tools` those (or patterns of their use) that
    are not. `files` and `images` are paths in `media_roots`, or URLs. `working_dir` and `add_dirs` must be
    inside `client_roots`; `mcp_config`, `permission_mode` and `auto_allow_permissions` widen what the agent
    may do, and need the operator's `client_may`.
    """

    session_id: str | None = None
    continue_: bool | None = msgspec.field(name="continue", default=None)
    model: str | None = None
    tools: Names | None = None
    disallowed_tools: Names | None = None
    permission_mode: PermissionMode | None = None
    auto_allow_permissions: bool | None = None
    max_turns: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    max_budget_usd: Annotated[float, msgspec.Meta(gt=0, le=1_000_000)] | None = None
    effort: Effort | None = None
    agents: dict[str, SubAgent] | None = None
    add_dirs: list[str] | None = None
    working_dir: str | None = None
    mcp_config: dict[str, Any] | None = None
    strict_mcp_config: bool | None = None
    files: Annotated[list[str], msgspec.Meta(max_length=_MOST_NAMES)] | None = None
    images: Annotated[list[str], msgspec.Meta(max_length=_MOST_NAMES)] | None = None
    output_format: Literal["text", "json", "stream-json"] | None = None
    debug: bool | None = None


def launch_options(options: ClaudeOptions | None, settings: Settings) -> LaunchOptions:
    """What the options ask of the CLI's start; raises `ApiError` 400 or 403 for what may not be asked."""
    if options is None:
        return LaunchOptions()
    mcp_config = None
    if options.mcp_config is not None:
        _require("mcp_config", "mcp_config", settings)
        mcp_config = _text("mcp_config", options.mcp_config)
    return LaunchOptions(
        tools=None if options.tools is None else tuple(options.tools),
        disallowed_tools=tuple(options.disallowed_tools or ()),
        permission_mode=_permission_mode(options, settings),
        max_turns=options.max_turns,
        max_budget_usd=options.max_budget_usd,
        agents=None if options.agents is None else _text("agents", options.agents),
        add_dirs=tuple(_inside("add_dirs", place, settings) for place in options.add_dirs or ()),
        mcp_config=mcp_config,
        is_mcp_strict=bool(options.strict_mcp_config),
        working_dir=None
        if options.working_dir is None
        else _inside("working_dir", options.working_dir, settings),
    )


def _permission_mode(options: ClaudeOptions, settings: Settings) -> str | None:
    mode, field = options.permission_mode, "permission_mode"
    if options.auto_allow_permissions:
        mode, field = "bypassPermissions", "auto_allow_permissions"
    if mode is not None and PERMISSION_MODES.index(mode) > PERMISSION_MODES.index(settings.permission_mode):
        _require("permissions", field, settings)
    return mode


def _require(right: str, field: str, settings: Settings) -> None:
    if right not in settings.client_may:
        said = f"'claude_options.{field}' widens what the agent may do, and is not allowed here."
        raise ApiError(403, said, type="permission_error", param=f"claude_options.{field}", code="forbidden")


def _inside(field: str, place: str, settings: Settings) -> str:
    """The path, if it lies in a root by its words; the worker looks at what is really there."""
    path = Path(os.path.normpath(place))
    if "\0" in place or any(len(part.encode()) > _LONGEST_PART for part in path.parts):
        path = Path("/")
    if not any(path.is_relative_to(root) for root in settings.client_roots) or not path.is_absolute():
        said = f"'claude_options.{field}' must be an absolute path in a directory that the operator allows."
        raise ApiError(403, said, type="permission_error", param=f"claude_options.{field}", code="forbidden")
    return str(path)


def _text(field: str, value: object) -> str:
    encoded = msgspec.json.encode(value)
    if len(encoded) > _MOST_BYTES:
        said = f"'claude_options.{field}' may have at most {_MOST_BYTES} bytes."
        raise ApiError(400, said, param=f"claude_options.{field}", code="invalid_value")
    return encoded.decode()
