"""A Backline of this directory that runs in the background: the doctor looks at that, as it was started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.background import Background
from cli.credentials import find_credentials
from cli.doctor.claude import LOG_IN
from cli.doctor.finding import Finding, ok, warning
from shared.settings_sources import SettingsError, load_settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def find_running(cwd: Path) -> tuple[Mapping[str, str], list[Finding]]:
    """The environment to look at, and what is to be said of it.

    That is the environment in which `backline up --detach` was started here, if it runs; else this shell's.
    """
    background = Background(cwd)
    process = background.process()
    if process is None:
        return os.environ, []
    who = f"process {process.pid}{f' at {background.url}' if background.url else ''}"
    environ = background.environ()
    if not environ:
        said = f"{who}; how it was started cannot be read, so all of this is about this shell"
        return os.environ, [warning("running", said, "backline status")]
    return environ, [ok("running", f"{who}; all of this is about it, as it was started, not this shell")]


def compare_credentials(
    environ: Mapping[str, str], agent_directories: list[Path], cwd: Path
) -> list[Finding]:
    """Whether what runs (`environ`) has credentials that a new start in this shell would not find."""
    try:
        here = load_settings({}, os.environ, cwd).environ
    except SettingsError:
        return []
    had = find_credentials(environ, agent_directories)
    if had is None or find_credentials(here, agent_directories) is not None:
        return []
    said = f"What runs has {had}; this shell has no credentials, and `backline restart` would not start here."
    return [warning("running", said, LOG_IN)]
