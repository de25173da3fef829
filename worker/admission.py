"""What a run may ask of this worker: looked at here again, because who can write to Redis can ask anything.

The API refuses the same and says it better; what is refused here was most likely forged.
"""

from __future__ import annotations

import os.path
import re
from pathlib import Path

import msgspec

from shared.agents import is_claude_model, is_revision
from shared.runs import LaunchOptions, RunRequest
from shared.settings import PERMISSION_MODES, Settings

_TOOL = re.compile(r"[^,\s-][^,\n\r\0]{0,200}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_MOST_NAMES = 100
_MOST_BYTES = 64 * 1024
_KERNELS = (Path("/proc"), Path("/sys"), Path("/dev"))


class NotPermittedError(Exception):
    """The run asks for what this worker does not let a request choose; the message says what."""


def admit(request: RunRequest, settings: Settings) -> None:
    """Raise `NotPermittedError` unless every choice in `request` is one that a request has here."""
    if request.model is not None and not is_claude_model(request.model):
        raise NotPermittedError("The run names something that is no Claude model.")
    if request.revision and not is_revision(request.revision):
        raise NotPermittedError("The run names a revision by what is none.")
    if request.revision and (request.project or request.options.working_dir):
        raise NotPermittedError("The run names a revision, and a directory that is not the agent's own.")
    for name in (request.session, request.head):
        if name and _ID.fullmatch(name) is None:
            raise NotPermittedError("The run names a session by something that is no id.")
    options = request.options
    _admit_names(options)
    _admit_rights(options, settings)
    for said in (options.agents, options.mcp_config):
        _admit_json(said)
    for place in (*options.add_dirs, *([options.working_dir] if options.working_dir else [])):
        directory_in(place, settings)


def directory_in(place: str, settings: Settings) -> Path:
    """What is really at `place`: a directory in one of the roots, links followed.

    Raises `NotPermittedError`, in the same words whether it is elsewhere or not there at all.
    """
    try:
        real = Path(os.path.realpath(place))
        is_directory = real.is_dir()
    except (OSError, ValueError):  # a name that is too long, a NUL, or what may not be looked at
        real, is_directory = _KERNELS[0], False
    roots = [Path(os.path.realpath(root)) for root in settings.client_roots]
    is_inside = any(real.is_relative_to(root) for root in roots)
    is_kernels = any(real.is_relative_to(kernel) for kernel in _KERNELS)
    if not place.startswith("/") or not is_inside or is_kernels or not is_directory:
        raise NotPermittedError("The run names a directory that this worker does not let a request choose.")
    return real


def _admit_names(options: LaunchOptions) -> None:
    names = (*(options.tools or ()), *options.disallowed_tools)
    if len(names) > 2 * _MOST_NAMES or not all(_TOOL.fullmatch(name) for name in names):
        raise NotPermittedError("The run names tools by what are no names of tools.")


def _admit_rights(options: LaunchOptions, settings: Settings) -> None:
    mode = options.permission_mode
    if mode is not None and mode not in PERMISSION_MODES:
        raise NotPermittedError("The run names a permission mode that is none.")
    is_freer = mode is not None and PERMISSION_MODES.index(mode) > PERMISSION_MODES.index(
        settings.permission_mode
    )
    if is_freer and "permissions" not in settings.client_may:
        raise NotPermittedError("The run asks for a freer permission mode than this worker's.")
    if options.mcp_config is not None and "mcp_config" not in settings.client_may:
        raise NotPermittedError("The run brings MCP servers, which this worker does not allow.")


def _admit_json(said: str | None) -> None:
    """The CLI takes what is no JSON for the path of a file."""
    if said is None:
        return
    try:
        msgspec.json.decode(said, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError):
        raise NotPermittedError("The run brings options that are no JSON object.") from None
    if len(said.encode()) > _MOST_BYTES:
        raise NotPermittedError(f"The run brings options of more than {_MOST_BYTES} bytes.")
